"""JSON Schemas in the words that generators of clients understand."""

from typing import Any

_STRING_ONLY = ("pattern", "minLength", "maxLength", "format")
_NUMBER_ONLY = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def readable(schema: Any) -> Any:
    """Return a document with equal schemas that the common generators of clients can read.

    Alternatives are ``anyOf``: a list of types and an enumeration of several types become one
    alternative for each type. ``items: false`` is left out, since ``maxItems`` says the same.
    """
    if isinstance(schema, list):
        return [readable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    described = {name: readable(part) for name, part in schema.items()}
    if described.get("items") is False:
        del described["items"]
    if isinstance(described.get("enum"), list):
        return _enumerated(described)
    if isinstance(described.get("type"), list):
        return _of_types(described, described["type"])
    return described


def _enumerated(schema: dict[str, Any]) -> dict[str, Any]:
    """Return an enumeration, with one alternative for each type of its values."""
    values: dict[str, list[Any]] = {}
    for value in schema["enum"]:
        values.setdefault(_NAMES[type(value)], []).append(value)
    if len(values) == 1:
        return schema
    common = {name: part for name, part in schema.items() if name not in ("enum", "type", "anyOf")}
    return common | {
        "anyOf": [
            {"type": "null"} if name == "null" else {"type": name, "enum": members}
            for name, members in values.items()
        ]
    }


def _of_types(schema: dict[str, Any], types: list[str]) -> dict[str, Any]:
    """Return a schema of several types, with what concerns one of them in its alternative."""
    special = (*_STRING_ONLY, *_NUMBER_ONLY)
    common = {name: part for name, part in schema.items() if name not in ("type", *special)}
    alternatives = []
    for name in types:
        own = _STRING_ONLY if name == "string" else _NUMBER_ONLY
        facets = {facet: schema[facet] for facet in own if facet in schema}
        alternatives.append({"type": name} | (facets if name != "null" else {}))
    return common | {"anyOf": alternatives}
