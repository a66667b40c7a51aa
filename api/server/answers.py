"""Sending of answers as ASGI messages."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.types import Receive, Send

from candlestep.api.http.route import File, JsonBytes, NoContent

Headers = Sequence[tuple[bytes, bytes]]

_encode = msgspec.json.Encoder().encode


async def send_answer(
    send: Send, status: int, request_id: str, answer: Any, extra: Headers
) -> None:
    """Send an answer of any kind except ``JsonLines``, with ``extra`` headers."""
    if type(answer) is NoContent:
        headers = [(b"x-request-id", request_id.encode()), *extra]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return
    content_type = b"application/json"
    if type(answer) is JsonBytes:
        body = answer.body
        if answer.headers:
            extra = [*extra, *answer.headers]
    elif isinstance(answer, File):
        body, content_type = answer.content, answer.content_type.encode()
        extra = [*extra, *_file_headers(answer)]
    else:
        body = _encode(answer)
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_lines(
    send: Send, receive: Receive, request_id: str, lines: AsyncGenerator[bytes, None]
) -> None:
    """Send lines of JSON, each as soon as there is one; close ``lines`` if the client leaves."""
    headers = [(b"content-type", b"application/x-ndjson"), (b"x-request-id", request_id.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    leaving = asyncio.create_task(_disconnect(receive))
    try:
        async with aclosing(lines):
            async for line in lines:
                await send({"type": "http.response.body", "body": line, "more_body": True})
                if leaving.done():
                    break
    finally:
        leaving.cancel()
    await send({"type": "http.response.body", "body": b""})


async def _disconnect(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _file_headers(file: File) -> Headers:
    if file.file_name is None:
        return file.headers
    name = f'"{file.file_name}"' if file.quotes_name else file.file_name
    return [(b"content-disposition", f"attachment; filename={name}".encode()), *file.headers]
