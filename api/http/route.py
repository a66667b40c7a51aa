"""What a route is, and how its body and query become checked values.

The tables of routes are the one list of what the server answers: Starlette's router, the OpenAPI
document and the tests of ownership are all made of them.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, get_args, get_origin

import msgspec

from candlestep.api.errors import STATUS, InvalidJson
from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.strategies.json_input import DEEPEST

AccessLevel = Literal["public", "account", "key", "admin"]
"""``key``: as ``account``, but with an API key itself and no token that was made with one."""


class JsonLines(msgspec.Struct, frozen=True):
    """Marks an answer as lines of JSON (``application/x-ndjson``), sent as they come."""


class File(msgspec.Struct, frozen=True):
    """Marks an answer that is text of another kind, and says which."""

    content_type: str
    text: bytes
    file_name: str | None = None
    """As what a browser is to save it."""
    quotes_name: bool = True


class NoContent(msgspec.Struct, frozen=True):
    """An answer of status 204, without a body."""


class PlainText(msgspec.Struct, frozen=True):
    """Marks a body that is text as it stands, of whatever content type, and holds it."""

    text: str


class NumberText(str):
    """The text of a JSON number with a point or an exponent; see ``with_numbers``."""

    __slots__ = ()


class Request(msgspec.Struct):
    """One request, checked: who calls, the path's parameters, the body and the query."""

    account_id: str
    agent_id: str
    """The agent of the key that was sent; the account's default one without a key."""
    path: Mapping[str, str]
    body: Any
    query: Any
    request_id: str
    key: str | None = None
    """The Idempotency-Key that it was sent with."""
    headers: Any = None
    """Those that the route takes."""
    api_key_id: str | None = None
    """Of the API key that it was sent with, or that its token was made with."""


class JsonBytes(NamedTuple):
    """An answer that is JSON already, and its 2xx status."""

    body: bytes
    status: int


Handler = Callable[[Any, Request], Awaitable[Any]]
Lines = AsyncIterator[bytes]


class Route(msgspec.Struct, frozen=True):
    """One method of one path: who may call it, what it takes, and what it answers."""

    method: str
    path: str
    handler: Handler
    summary: str
    answer: Any
    """Its type; a tuple of types where it is one of several."""
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    status: int = 200
    also: tuple[int, ...] = ()
    """Further 2xx statuses that it may answer with."""
    errors: tuple[str, ...] = ()
    """Codes that it may answer with, beside those that any route may."""
    access: AccessLevel = "account"
    takes_key: bool = False
    """Whether an Idempotency-Key makes it safe to send again."""
    headers: type[msgspec.Struct] | None = None
    """The headers that it takes, each a field; unknown ones are of no account."""
    refused_with: int = 422
    """The status of what is understood and refused."""

    def status_of(self, code: str) -> int:
        """The HTTP status that an error of this code has here."""
        status = STATUS.get(code, 500)
        return self.refused_with if status == 422 else status

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the path's parameters."""
        parts = self.path.split("/")
        return tuple(part[1:-1] for part in parts if part.startswith("{"))


_WHOLE_NUMBER = re.compile(r"-?[0-9]+", re.ASCII)
_ABOUT_FIELD = re.compile(
    r"(Object (?:contains unknown|missing required) field) `(.*?)`(?: - at `(.*)`)?", re.DOTALL
)
_LONGEST_MESSAGE = 200

_decoders: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {}


def decode_body(body_type: type[msgspec.Struct], raw: bytes) -> Any:
    """The body as a ``body_type``; an empty one is one without fields.

    A number with a point or an exponent is kept as its text, so that no digit is lost before it
    is checked. Raises ``InvalidJson``, or ``InvalidParameter`` naming the field.
    """
    if body_type is PlainText:
        return _text(raw)
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
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from None


def decode_query(query_type: type[msgspec.Struct], query: Mapping[str, str]) -> Any:
    """The query string as a ``query_type``; raises ``InvalidParameter`` naming the parameter."""
    try:
        decoded = msgspec.convert(query, query_type, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error, query_type) from None
    fields = {field.encode_name: field.name for field in msgspec.structs.fields(query_type)}
    for name, text in query.items():
        value = getattr(decoded, fields[name])
        if value is None:  # msgspec reads "null" as None, which is no filter
            raise InvalidParameter(name, f"{abbreviate(text)!r} is no value of it")
        # msgspec reads numbers as Python does: 1_000, digits of other scripts.
        if type(value) is int and not _WHOLE_NUMBER.fullmatch(text):
            raise InvalidParameter(name, f"{abbreviate(text)!r} is not a whole number such as 100")
    return decoded


def decode_headers(header_type: type[msgspec.Struct], headers: Mapping[bytes, bytes]) -> Any:
    """What a ``header_type`` names of the headers, an empty one counting as absent.

    Raises ``InvalidParameter`` naming the header.
    """
    sent = {
        name: headers[name.lower().encode()].strip().decode("latin-1")
        for name in header_names(header_type)
        if headers.get(name.lower().encode(), b"").strip()
    }
    return decode_query(header_type, sent)


def header_names(header_type: type[msgspec.Struct]) -> list[str]:
    """The names of the headers that a route takes, as they are usually written."""
    return [field.encode_name for field in msgspec.structs.fields(header_type)]


def with_numbers(value: Any, depth: int = 0) -> Any:
    """Decoded JSON with its numbers as numbers again: for what is no money, such as a strategy.

    What is nested deeper than any strategy may be stays as it is.
    """
    match value:
        case NumberText():
            return float(value)
        case list() if depth <= DEEPEST:
            return [with_numbers(each, depth + 1) for each in value]
        case dict() if depth <= DEEPEST:
            return {name: with_numbers(each, depth + 1) for name, each in value.items()}
    return value


def _text(raw: bytes) -> PlainText:
    try:
        return PlainText(raw.decode())
    except UnicodeDecodeError as error:
        raise InvalidParameter("body", f"is not UTF-8 from byte {error.start} on") from None


def _invalid(
    error: msgspec.ValidationError, decoded_type: type[msgspec.Struct]
) -> InvalidParameter:
    """The error of msgspec, with the name of the field in front; both may quote what was sent."""
    text = str(error)
    about_field = _ABOUT_FIELD.fullmatch(text)
    if about_field:
        what, name, place = about_field.groups()
        message = _about_field(what, name, decoded_type if not place else None)
    else:
        name = ""
        message, separator, place = text.rpartition(" - at `")
        if not separator:
            message, place = text, ""
    within = (place or "").rstrip("`").removeprefix("$").lstrip(".")
    field = ".".join(part for part in (within, abbreviate(name)) if part) or "body"
    if message.startswith("Invalid enum value"):
        message += _choices(decoded_type, field)
    if len(message) > _LONGEST_MESSAGE:
        message = message[:_LONGEST_MESSAGE] + "…"
    return InvalidParameter(field, f"{message[:1].lower()}{message[1:]}")


def _about_field(what: str, name: str, decoded_type: type[msgspec.Struct] | None) -> str:
    if "missing" in what:
        return f"is required: {what} `{abbreviate(name)}`"
    known = () if decoded_type is None else decoded_type.__struct_encode_fields__
    near = get_close_matches(name[:100], known, n=1)
    meant = f"; did you mean `{near[0]}`?" if near else ""
    return f"{what} `{abbreviate(name)}`{meant}"


def _choices(decoded_type: type[msgspec.Struct], field: str) -> str:
    """What a field of few values may be, in words; nothing for one that may be anything."""
    first, _, rest = field.partition(".")
    fields = msgspec.structs.fields(decoded_type)
    parts = [part for each in fields if each.encode_name == first for part in _parts(each.type)]
    if rest:
        found = (_choices(part, rest) for part in parts if _is_struct(part))
        return next(found, "")
    values = [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
    return f"; it must be one of {', '.join(map(str, values))}" if values else ""


def _parts(kind: Any) -> Iterator[Any]:
    """A type, and those that it is made of."""
    yield kind
    for part in get_args(kind):
        yield from _parts(part)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
