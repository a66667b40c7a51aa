"""The OpenAPI document, made of the routes and of the types that they decode and encode."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from candlestep import __version__
from candlestep.api.http.api import Api, Endpoint
from candlestep.api.http.descriptions import ERROR_CODES, PARAMETERS
from candlestep.api.http.error_body import ErrorBody
from candlestep.api.http.json_schema import readable
from candlestep.api.http.route import (
    AccessLevel,
    File,
    FileContent,
    JsonDocument,
    JsonLines,
    NoContent,
    Route,
)
from candlestep.api.schemas.decoding import PlainText

_EVERY_ROUTE = ("INTERNAL_ERROR",)
_BY_ACCESS: Mapping[AccessLevel, tuple[str, ...]] = {
    "public": ("FORBIDDEN",),
    "account": ("UNAUTHORIZED", "FORBIDDEN", "STORAGE_UNAVAILABLE"),
    "key": ("invalid_apikey", "FORBIDDEN", "STORAGE_UNAVAILABLE"),
    "admin_key": ("UNAUTHORIZED", "FORBIDDEN", "STORAGE_UNAVAILABLE"),
    "admin": ("UNAUTHORIZED",),
}
_WITH_BODY = ("INVALID_JSON", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE")
_WITH_TEXT = ("PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE")
_NOT_JSON = (PlainText, FileContent)
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
    "description": "Makes it safe to repeat the request: the same key gets the same answer.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
_SECURITY_SCHEMES = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, or a token of `POST /api/v1/auth/token`.",
    },
    "command_line": {"type": "apiKey", "in": "header", "name": "X-Candlestep-Token"},
}
_ANY_TEXT = {"type": "string", "minLength": 1}
_UNDESCRIBED = (JsonLines, File, NoContent, JsonDocument)
"""Kinds of answers that have no schema."""

References = Mapping[Any, dict[str, Any]]
"""The schema of each type: a reference to its component."""


def openapi(
    apis: Sequence[Api], description: str, examples: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document of the documented routes of ``apis``.

    ``examples`` has, by method and path, an example of the ``response`` and of the ``request``.
    """
    endpoints = [
        endpoint for api in apis for endpoint in api.endpoints() if endpoint.route.is_documented
    ]
    references, components = _schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        method = endpoint.route.method.lower()
        operation = _operation(endpoint, references)
        name = f"{endpoint.route.method} {endpoint.route.path}"
        _add_examples(operation, (examples or {}).get(name, {}), str(endpoint.route.status))
        paths.setdefault(endpoint.route.path, {})[method] = operation
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Candlestep", "version": __version__, "description": description},
        "tags": [{"name": tag} for tag in dict.fromkeys(endpoint.tag for endpoint in endpoints)],
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": _HEADERS,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }
    readable_document: dict[str, Any] = readable(document)
    return readable_document


def _add_examples(operation: dict[str, Any], example: Mapping[str, Any], status: str) -> None:
    """Add the example of a request and of its answer to an operation, where both are JSON."""
    for key, place in (("request", operation.get("requestBody")),
                       ("response", operation["responses"].get(status))):  # fmt: skip
        content = {} if place is None else place.get("content", {})
        if key in example and "application/json" in content:
            content["application/json"]["example"] = example[key]


def _schemas(endpoints: Sequence[Endpoint]) -> tuple[References, dict[str, Any]]:
    """Return the schema of each body and answer, and the components that schemas refer to."""
    routes = [endpoint.route for endpoint in endpoints]
    types = {answer for route in routes for answer in _described_answers(route)}
    types |= {ErrorBody, *(endpoint.api.error_body for endpoint in endpoints)}
    types |= {route.body for route in routes if route.body not in (None, *_NOT_JSON)}
    ordered = sorted(types, key=lambda described: described.__name__)
    schemas, components = msgspec.json.schema_components(
        ordered, ref_template="#/components/schemas/{name}"
    )
    for component in components.values():
        # Answers have no fields except those of their types.
        if "properties" in component:
            component.setdefault("additionalProperties", False)
    return dict(zip(ordered, schemas, strict=True)), components


def _described_answers(route: Route) -> tuple[Any, ...]:
    """Return the types of a route's answers that have a schema."""
    answers = route.answer if isinstance(route.answer, tuple) else (route.answer,)
    return tuple(answer for answer in answers if answer not in _UNDESCRIBED)


def _operation(endpoint: Endpoint, references: References) -> dict[str, Any]:
    route = endpoint.route
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{_identifier(route.path)}",
        "summary": route.summary,
        "description": inspect.cleandoc(route.handler.__doc__ or route.summary).replace("``", "`"),
        "tags": [endpoint.tag],
        "parameters": [
            *_path_parameters(endpoint),
            *_parameters(route.query, "query"),
            *_parameters(route.headers, "header"),
            *([_KEY_PARAMETER] if route.takes_key else []),
        ],
        "responses": _responses(endpoint, references),
        "security": _security(route),
    }
    if route.body is not None:
        operation["requestBody"] = _request_body(route.body, references)
    return operation


def _request_body(body: type[msgspec.Struct], references: References) -> dict[str, Any]:
    if body is PlainText:
        # Generators of clients send a text by its bytes, if at all.
        content: dict[str, Any] = {
            "text/plain": {"schema": {"type": "string"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        }
        return {"required": True, "content": content}
    if body is FileContent:
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        return {"required": True, "content": content}
    return {
        "required": any(field.required for field in msgspec.structs.fields(body)),
        "content": {"application/json": {"schema": references[body]}},
    }


def _identifier(path: str) -> str:
    """Return a path as a name in lower case, as generators of clients name their modules."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path.strip("/").replace("{", "").replace("}", ""))
    return re.sub(r"[^a-z0-9]+", "_", words.lower())


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    known = endpoint.api.path_parameters
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": (schema := known[name].schema if name in known else _ANY_TEXT),
        }
        | _description(name, schema)
        for name in endpoint.route.parameters
    ]


def _parameters(struct: type[msgspec.Struct] | None, place: str) -> list[dict[str, Any]]:
    """Describe the fields of a query or of headers as parameters."""
    if struct is None:
        return []
    parameters = []
    for field in msgspec.structs.fields(struct):
        schema = msgspec.json.schema(field.type)
        if "anyOf" in schema:
            # A parameter that is absent is None, which a query cannot express.
            [schema] = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
        if not field.required and field.default is not None:
            schema = schema | {"default": field.default}
        parameters.append(
            {"name": field.encode_name, "in": place, "required": field.required, "schema": schema}
            | _description(field.encode_name, schema)
        )
    return parameters


def _description(name: str, schema: Mapping[str, Any]) -> dict[str, str]:
    """Return the description of a parameter: that of its schema, or else that of its name."""
    text = schema.get("description") or PARAMETERS.get(name)
    return {} if text is None else {"description": text}


def _responses(endpoint: Endpoint, references: References) -> dict[str, Any]:
    route = endpoint.route
    responses: dict[str, Any] = {}
    for status in (route.status, *route.also):
        responses[str(status)] = {"description": route.summary}
        if route.answer is not NoContent:
            responses[str(status)]["content"] = _content(route, references)
    codes: dict[int, list[str]] = {}
    for code in _error_codes(route):
        codes.setdefault(endpoint.status_of(code), []).append(code)
    for status, names in sorted(codes.items()):
        responses[str(status)] = _error_response(endpoint, references, names)
    for number, response in responses.items():
        names = ["X-Request-Id", *(["Retry-After"] if number in _RETRIED else [])]
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return responses


def _error_response(endpoint: Endpoint, references: References, codes: list[str]) -> dict[str, Any]:
    """Describe an error whose code is among ``codes``."""
    body = endpoint.api.error_body
    code: dict[str, Any] = {"enum": codes}
    error = code if body is ErrorBody else {"properties": {"code": code}}
    schema = references[body] | {"properties": {"code": code, "error": error}}
    return {
        "description": "\n".join(f"- `{code}`: {ERROR_CODES[code]}" for code in codes),
        "content": {"application/json": {"schema": schema}},
    }


def _content(route: Route, references: References) -> dict[str, Any]:
    """Describe a successful answer, by its media type."""
    if route.answer in (JsonLines, File):
        schema = {"type": "string"}
        if route.answer_description is not None:
            schema["description"] = route.answer_description
        media_type = route.media_type if route.answer is File else "application/x-ndjson"
        return {media_type: {"schema": schema}}
    if route.answer is JsonDocument:
        return {"application/json": {"schema": {"type": "object"}}}
    schemas = [references[answer] for answer in _described_answers(route)]
    return {"application/json": {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}


def _error_codes(route: Route) -> tuple[str, ...]:
    codes = [*_EVERY_ROUTE, *_BY_ACCESS[route.access], *route.errors]
    if route.body is not None:
        codes += _WITH_TEXT if route.body in _NOT_JSON else _WITH_BODY
    if route.access != "public" or route.body is not None:
        codes.append("INVALID_PARAMETER")
    return tuple(dict.fromkeys(codes))


def _security(route: Route) -> list[dict[str, list[str]]]:
    if route.access == "admin":
        return [{"command_line": []}]
    if route.access == "key":
        return [{"key": []}, {}]
    return [] if route.access == "public" else [{"key": []}, {"bearer": []}, {}]
