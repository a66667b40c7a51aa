"""Quoting of text and names, for SQL statements that do not take parameters."""


def quote_text(text: str) -> str:
    """Return a text as a string literal."""
    return "'" + text.replace("'", "''") + "'"


def quote_name(name: str) -> str:
    """Return the name of a column or table as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'
