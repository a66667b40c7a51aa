"""The description of the server, made of its routes and their types, and a page to browse it."""

import inspect
from functools import cache
from typing import Any

import msgspec

from candlestep import __version__
from candlestep.api.http.error_body import ErrorBody
from candlestep.api.http.route import AccessLevel, File, JsonLines, NoContent, Route
from candlestep.api.schemas.decoding import PlainText
from candlestep.api.schemas.fields import SYMBOL_PATTERN

_ALWAYS = ("INTERNAL_ERROR",)
_BY_ACCESS: dict[AccessLevel, tuple[str, ...]] = {
    "public": ("FORBIDDEN",),
    "account": ("UNAUTHORIZED", "FORBIDDEN", "STORAGE_UNAVAILABLE"),
    "key": ("invalid_apikey", "FORBIDDEN", "STORAGE_UNAVAILABLE"),
    "admin": ("UNAUTHORIZED",),
}
_WITH_BODY = ("INVALID_JSON", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE")
_WITH_TEXT = ("PAYLOAD_TOO_LARGE",)
_RETRIED = ("429", "503")
"""Statuses that come with ``Retry-After``."""

_HEADERS = {
    "X-Request-Id": {"required": True, "schema": {"type": "string"}},
    "Retry-After": {"required": True, "description": "Seconds.", "schema": {"type": "integer"}},
}
_KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes it safe to send the request again: the same key gets the same answer.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
_KINDS = {
    "/docs": "text/html",
    "/api/v1/backtest/{session_id}/recording": "application/x-ndjson",
    "/api/v1/backtests/{backtest_id}/equity-curve/parquet": "application/vnd.apache.parquet",
    "/api/v1/backtests/{backtest_id}/trades/parquet": "application/vnd.apache.parquet",
}
_TAGS = {
    "system": "server",
    "documentation": "server",
    "tokens": "server",
    "agents": "agents",
    "prepare_execute.exchanges": "exchanges",
    "prepare_execute.programs": "prepare and execute",
    "prepare_execute.preparations": "prepare and execute",
    "prepare_execute.executions": "prepare and execute",
    "runs.runs": "runs",
    "runs.datasets": "runs",
    "jobs.jobs": "jobs",
    "jobs.templates": "jobs",
    "backtests.strategies": "strategies",
    "backtests.backtests": "backtests",
    "backtests.results": "backtests",
    "backtests.sweeps": "backtests",
    "backtests.tasks": "backtests",
    "stepping.sessions": "sessions",
    "stepping.forks": "sessions",
    "stepping.orders": "orders and trades",
    "stepping.market": "market and account",
    "stepping.account": "market and account",
    "stepping.results": "results",
    "admin": "command line",
}
"""The group of operations that each module of routes makes."""

_ABOUT = """A simulated exchange that an agent steps through candle by candle.

Every error has one shape, `ErrorBody`. Unknown fields and query parameters are refused by name.
A header `X-Request-Id` of up to 64 letters, digits and `_.:-` is answered as it was sent; without
it the answer has one of the server's."""

_LINES = """Lines of JSON, sent as the command goes on: `{"progress": {part, done, total, unit}}` each
but the last, which is `{"result": …}` or `{"error": {code, message, details}}`."""

_PATH_SCHEMAS: dict[str, dict[str, Any]] = {
    "symbol": {
        "type": "string",
        "pattern": SYMBOL_PATTERN,
        "description": "Such as `BTCUSDT`; `btc-usdt` and `BTC/USDT` are the same.",
        "examples": ["BTCUSDT"],
    },
    "segment": {"enum": ["spot", "futures"]},
    "type": {"enum": ["ticker", "kline"]},
    "order_id": {"type": "integer", "minimum": 1, "maximum": 999_999_999_999},
}


class JsonDocument(msgspec.Struct, frozen=True):
    """Marks an answer that is a JSON document as it stands."""


@cache
def openapi(routes: tuple[Route, ...]) -> dict[str, Any]:
    """An OpenAPI 3.1 document of ``routes``."""
    types = {answer for route in routes for answer in _answers(route)} | {ErrorBody}
    types |= {each.body for each in routes if each.body not in (None, PlainText)}
    ordered = sorted(types, key=lambda each: each.__name__)
    schemas, components = msgspec.json.schema_components(
        ordered, ref_template="#/components/schemas/{name}"
    )
    references = dict(zip(ordered, schemas, strict=True))
    for component in components.values():
        # Answers have the fields of their types, and no other.
        if "properties" in component:
            component.setdefault("additionalProperties", False)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operation = _operation(route, references)
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Candlestep",
            "version": __version__,
            "description": _ABOUT,
        },
        "tags": [{"name": name} for name in dict.fromkeys(_TAGS.values())],
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": _HEADERS,
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, or a token of `POST /api/v1/auth/token`.",
                },
                "command_line": {"type": "apiKey", "in": "header", "name": "X-Candlestep-Token"},
            },
        },
    }


def _answers(route: Route) -> tuple[Any, ...]:
    """The types that a route may answer with, which are described; none of what is no JSON."""
    answers = route.answer if isinstance(route.answer, tuple) else (route.answer,)
    return tuple(each for each in answers if each not in (JsonLines, File, NoContent, JsonDocument))


def _operation(route: Route, references: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{_identifier(route.path)}",
        "summary": route.summary,
        "description": inspect.cleandoc(route.handler.__doc__ or route.summary).replace("``", "`"),
        "tags": [_TAGS[route.handler.__module__.removeprefix("candlestep.api.routes.")]],
        "parameters": [
            *_path_parameters(route),
            *_parameters(route.query, "query"),
            *_parameters(route.headers, "header"),
            *([_KEY_PARAMETER] if route.takes_key else []),
        ],
        "responses": _responses(route, references),
        "security": _security(route),
    }
    if route.body is PlainText:
        content = {"text/plain": {"schema": {"type": "string"}}}
        operation["requestBody"] = {"required": True, "content": content}
    elif route.body is not None:
        fields = msgspec.structs.fields(route.body)
        operation["requestBody"] = {
            "required": any(field.required for field in fields),
            "content": {"application/json": {"schema": references[route.body]}},
        }
    return operation


def _identifier(path: str) -> str:
    return path.strip("/").replace("/", "_").replace("-", "_").replace("{", "").replace("}", "")


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    any_id = {"type": "string", "minLength": 1}
    return [
        {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS.get(name, any_id)}
        for name in route.parameters
    ]


def _parameters(given: type[msgspec.Struct] | None, place: str) -> list[dict[str, Any]]:
    """Those of a query, or of the headers."""
    if given is None:
        return []
    parameters = []
    for field in msgspec.structs.fields(given):
        schema = msgspec.json.schema(field.type)
        if "anyOf" in schema:
            # A parameter that is absent is None; there is no way to write it.
            [schema] = [each for each in schema["anyOf"] if each != {"type": "null"}]
        if not field.required and field.default is not None:
            schema = schema | {"default": field.default}
        parameters.append(
            {"name": field.encode_name, "in": place, "required": field.required, "schema": schema}
        )
    return parameters


def _responses(route: Route, references: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status in (route.status, *route.also):
        responses[str(status)] = {"description": route.summary}
        if route.answer is not NoContent:
            responses[str(status)]["content"] = _content(route, references)
    codes: dict[int, list[str]] = {}
    for code in _codes(route):
        codes.setdefault(route.status_of(code), []).append(code)
    for status, names in sorted(codes.items()):
        responses[str(status)] = _refusal(references[ErrorBody], names)
    for number, response in responses.items():
        names = ["X-Request-Id", *(["Retry-After"] if number in _RETRIED else [])]
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return responses


def _refusal(reference: dict[str, Any], codes: list[str]) -> dict[str, Any]:
    """An error answer that has one of ``codes``."""
    match_choice = {"enum": codes}
    schema = reference | {"properties": {"code": match_choice, "error": match_choice}}
    return {
        "description": ", ".join(codes),
        "content": {"application/json": {"schema": schema}},
    }


def _content(route: Route, references: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    if route.answer is JsonLines:
        return {"application/x-ndjson": {"schema": {"type": "string", "description": _LINES}}}
    if route.answer is File:
        kind = _KINDS.get(route.path, "text/plain")
        return {kind: {"schema": {"type": "string"}}}
    if route.answer is JsonDocument:
        return {"application/json": {"schema": {"type": "object"}}}
    schemas = [references[each] for each in _answers(route)]
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return {"application/json": {"schema": schema}}


def _codes(route: Route) -> tuple[str, ...]:
    codes = [*_ALWAYS, *_BY_ACCESS[route.access], *route.errors]
    if route.body is not None:
        codes += _WITH_TEXT if route.body is PlainText else _WITH_BODY
    if route.access != "public" or route.body is not None:
        codes.append("INVALID_PARAMETER")
    return tuple(dict.fromkeys(codes))


def _security(route: Route) -> list[dict[str, list[str]]]:
    if route.access == "admin":
        return [{"command_line": []}]
    if route.access == "key":
        return [{"key": []}, {}]
    return [] if route.access == "public" else [{"key": []}, {"bearer": []}, {}]
