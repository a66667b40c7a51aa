"""Text and names as SQL writes them, for statements that take no parameters."""


def quote_text(text: str) -> str:
    """Return a string literal."""
    return "'" + text.replace("'", "''") + "'"


def quote_name(name: str) -> str:
    """Return the name of a column or a table as an identifier."""
    return '"' + name.replace('"', '""') + '"'
