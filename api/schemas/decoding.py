"""Decoding of request bodies, queries and headers into checked values.

Numbers may be sent as JSON numbers or strings, unknown fields are refused by name, and every
error names the field at fault.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, ClassVar, Literal, get_args, get_origin

import msgspec

from candlestep.api.errors import InvalidJson
from candlestep.data.errors import NOT_JSON
from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.strategies.json_input import DEEPEST


class RequestBody(msgspec.Struct, forbid_unknown_fields=True):
    """The base class of request bodies and queries, which refuses unknown fields by name."""

    foreign_names: ClassVar[Mapping[str, str]] = {}
    """Names of fields that other systems have, and what is meant by them here."""
    has_strategy: ClassVar[bool] = False
    """True if a field holds a strategy, whose numbers ``with_numbers`` restores."""


class EmptyBody(RequestBody):
    """A body or query without fields."""


class PlainText(msgspec.Struct, frozen=True):
    """A body that is taken as text, whatever its content type, unless that is JSON."""

    text: str


class NumberText(str):
    """The text of a JSON number with a point or an exponent; see ``with_numbers``."""

    __slots__ = ()


_WHOLE_NUMBER = re.compile(r"-?[0-9]+", re.ASCII)
_ABOUT_FIELD = re.compile(
    r"(Object (?:contains unknown|missing required) field) `(.*?)`(?: - at `(.*)`)?", re.DOTALL
)
_ABOUT_LENGTH = re.compile(r"Expected `array` of length (>=|<=) ([0-9]+)", re.ASCII)
_INDEX = re.compile(r"\[[^\]]*\]")
_LONGEST_MESSAGE = 240

_decoders: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {}


def decode_body(body_type: type[msgspec.Struct], raw: bytes) -> Any:
    """Decode a body as ``body_type``; an empty body has no fields.

    A number with a point or an exponent is kept as its text, so that no digit is lost before it
    is checked. Raises ``InvalidJson``, or ``InvalidParameter`` naming the field.
    """
    if body_type is PlainText:
        return _decode_text(raw)
    decoder = _decoders.get(body_type)
    if decoder is None:
        has_strategy = getattr(body_type, "has_strategy", False)
        decoder = _decoders[body_type] = msgspec.json.Decoder(
            body_type, float_hook=NumberText if has_strategy else str
        )
    try:
        return decoder.decode(raw or b"{}")
    except msgspec.ValidationError as error:
        raise _invalid(error, body_type) from None
    except NOT_JSON as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from None


def decode_query(query_type: type[msgspec.Struct], query: Mapping[str, str]) -> Any:
    """Convert a query to ``query_type``; raises ``InvalidParameter`` naming the parameter."""
    try:
        decoded = msgspec.convert(query, query_type, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error, query_type) from None
    fields = _fields_by_name(query_type)
    for name, text in query.items():
        value = getattr(decoded, fields[name])
        if value is None:  # msgspec reads "null" as None, which would lift the filter
            raise InvalidParameter(name, f"{abbreviate(text)!r} is not a valid value")
        # msgspec reads numbers as Python does: 1_000, digits of other scripts.
        if type(value) is int and not _WHOLE_NUMBER.fullmatch(text):
            raise InvalidParameter(name, f"{abbreviate(text)!r} is not a whole number such as 100")
    return decoded


def decode_headers(header_type: type[msgspec.Struct], headers: Mapping[bytes, bytes]) -> Any:
    """Convert the headers that ``header_type`` names; an empty header counts as absent.

    Raises ``InvalidParameter`` naming the header.
    """
    sent = {
        name: value.decode("latin-1")
        for key, name in _names_by_header(header_type)
        if (value := headers.get(key, b"").strip())
    }
    return decode_query(header_type, sent)


@cache
def _names_by_header(header_type: type[msgspec.Struct]) -> Sequence[tuple[bytes, str]]:
    """Return each header as requests have it here, in lower case, and as it is usually written."""
    return [(name.lower().encode(), name) for name in header_names(header_type)]


def header_names(header_type: type[msgspec.Struct]) -> Collection[str]:
    """Return the names of the headers that a type of headers has, as they are usually written."""
    return _fields_by_name(header_type)


@cache
def _fields_by_name(struct_type: type[msgspec.Struct]) -> Mapping[str, str]:
    """Return the attribute of each field by its name in requests; msgspec takes long to tell them."""
    return {field.encode_name: field.name for field in msgspec.structs.fields(struct_type)}


def with_numbers(value: Any, depth: int = 0) -> Any:
    """Return decoded JSON with numbers restored; for values that are not money, e.g. a strategy.

    Values nested deeper than a strategy may be are returned unchanged.
    """
    match value:
        case NumberText():
            return float(value)
        case list() if depth <= DEEPEST:
            return [with_numbers(item, depth + 1) for item in value]
        case dict() if depth <= DEEPEST:
            return {name: with_numbers(item, depth + 1) for name, item in value.items()}
    return value


def _decode_text(raw: bytes) -> PlainText:
    if not raw:
        raise InvalidParameter("body", "is missing: send the text itself, as text/plain")
    try:
        return PlainText(raw.decode())
    except UnicodeDecodeError as error:
        raise InvalidParameter("body", f"is not UTF-8 from byte {error.start} on") from None


def _invalid(
    error: msgspec.ValidationError, decoded_type: type[msgspec.Struct]
) -> InvalidParameter:
    """Convert an error of msgspec, whose text ends with the place and may quote the input."""
    text = str(error)
    about_field = _ABOUT_FIELD.fullmatch(text)
    if about_field:
        problem, name, place = about_field.groups()
        message = _field_message(problem, name, _struct_at(decoded_type, place or ""))
    else:
        name = ""
        message, separator, place = text.rpartition(" - at `")
        if not separator:
            message, place = text, ""
    parent = (place or "").rstrip("`").removeprefix("$").lstrip(".")
    field = ".".join(part for part in (parent, abbreviate(name)) if part) or "body"
    if message.startswith("Invalid enum value"):
        message += _choices(decoded_type, field)
    about_length = _ABOUT_LENGTH.fullmatch(message)
    if about_length:
        bound = "at least" if about_length[1] == ">=" else "at most"
        message = f"must have {bound} {about_length[2]} items"
    if len(message) > _LONGEST_MESSAGE:
        message = message[:_LONGEST_MESSAGE] + "…"
    return InvalidParameter(field, f"{message[:1].lower()}{message[1:]}")


def _field_message(problem: str, name: str, decoded_type: type[msgspec.Struct] | None) -> str:
    """Describe a missing or an unknown field; suggest the known name nearest to it."""
    if "missing" in problem:
        return "is required"
    if decoded_type is None:
        return f"{problem} `{abbreviate(name)}`"
    known = decoded_type.__struct_encode_fields__
    near = [f"`{field}`" for field in get_close_matches(name[:100], known, n=1)]
    foreign: Mapping[str, str] = getattr(decoded_type, "foreign_names", {})
    meant = foreign.get(name) or next(iter(near), None)
    suggestion = f"; did you mean {meant}?" if meant else ""
    fields = f" It may have {', '.join(known)}." if known else " It may have no fields."
    return f"{problem} `{abbreviate(name)}`{suggestion or '.'}{fields}"


def _struct_at(decoded_type: type[msgspec.Struct], place: str) -> type[msgspec.Struct] | None:
    """Return the only type of object that may stand at a place such as ``$.orders[0]``, or None."""
    found: type[msgspec.Struct] = decoded_type
    for name in _INDEX.sub("", place.rstrip("`")).removeprefix("$").lstrip(".").split("."):
        if not name:
            return found
        fields = [field for field in msgspec.structs.fields(found) if field.encode_name == name]
        structs = [
            part
            for field in fields
            for part in _parts(field.type)
            if isinstance(part, type) and issubclass(part, msgspec.Struct)
        ]
        if len(structs) != 1:
            return None
        (found,) = structs
    return found


def _choices(decoded_type: type[msgspec.Struct], field: str) -> str:
    """List the values of an enumerated field, or return an empty text for any other field."""
    first, _, rest = _INDEX.sub("", field).partition(".")
    parts = [
        part
        for struct_field in msgspec.structs.fields(decoded_type)
        if struct_field.encode_name == first
        for part in _parts(struct_field.type)
    ]
    if rest:
        structs = (part for part in parts if hasattr(part, "__struct_fields__"))
        return next((_choices(struct, rest) for struct in structs), "")
    values = [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
    return f"; it must be one of {', '.join(map(str, values))}" if values else ""


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield a type and, recursively, the arguments that it is made of."""
    yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)
