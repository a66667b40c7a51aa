"""JSON Schemas of tools, as short as they can be: a model pays for them in every conversation."""

from collections.abc import Mapping
from typing import Any

import msgspec

_REFERENCE = "#/$defs/"
_NULL = {"type": "null"}


def short_schema(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON Schema of a struct, without titles, references, null and empty defaults.

    A field that may be null may be left out, so that null need not be named.
    """
    schema = msgspec.json.schema(struct)
    definitions = schema.pop("$defs")
    shortened: dict[str, Any] = _short(schema, definitions)
    return shortened


def _short(schema: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_short(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _short(definitions[schema["$ref"].removeprefix(_REFERENCE)], definitions)
    if "anyOf" in schema:
        others = {name: value for name, value in schema.items() if name != "anyOf"}
        parts = [part for part in schema["anyOf"] if part != _NULL]
        if len(parts) == 1:
            return _short(parts[0] | others, definitions)
        return {"anyOf": _short(parts, definitions)} | _short(others, definitions)
    return {
        name: _fields(value, definitions) if name == "properties" else _short(value, definitions)
        for name, value in schema.items()
        if not _is_superfluous(name, value)
    }


def _fields(properties: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _short(value, definitions) for name, value in properties.items()}


def _is_superfluous(name: str, value: Any) -> bool:
    if name == "default":
        return value in (None, "", [], False)
    return (name == "title" and isinstance(value, str)) or (name == "required" and not value)
