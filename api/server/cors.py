"""Access of web pages of other origins (CORS), for those that the settings name."""

from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from candlestep.api.server.answers import Headers

_METHODS = b"GET, POST, PATCH, DELETE"
_EXPOSED = b"x-request-id, retry-after, content-disposition"
_PREFLIGHT_SECONDS = b"600"


class CrossOriginAccess:
    """An ASGI application that lets web pages of some origins use another.

    Pages of other origins get its answers without permission to read them, which browsers obey.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if origin not in self._origins:
            await self._app(scope, receive, send)
            return
        permission: Headers = [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"origin"),
        ]
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await _answer_preflight(send, permission, headers)
            return

        async def send_permitted(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *permission]
            await send(message)

        await self._app(scope, receive, send_permitted)


async def _answer_preflight(send: Send, permission: Headers, headers: dict[bytes, bytes]) -> None:
    """Allow a request that a page means to send, with any headers: none of them is trusted."""
    allowed = [
        *permission,
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", headers.get(b"access-control-request-headers", b"")),
        (b"access-control-max-age", _PREFLIGHT_SECONDS),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": allowed})
    await send({"type": "http.response.body", "body": b""})
