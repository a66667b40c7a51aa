"""The baseline of the HTTP rows: a Starlette app that returns given bytes from one route.

Run as ``python -m tests.benchmarks.baseline FILE``; prints its port when it serves.
"""

import socket
import sys
from pathlib import Path

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def app(answer: bytes) -> Starlette:
    """An app that answers every POST to its one route with ``answer``."""

    async def same_bytes(request: Request) -> Response:
        return Response(answer, media_type="application/json")

    return Starlette(routes=[Route("/step", same_bytes, methods=["POST"])])


async def serve(answer: bytes) -> None:
    # With the protocol named, small answers are sent at once, as those of our server are.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        app(answer), log_config=None, access_log=False, server_header=False, lifespan="off"
    )
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]).read_bytes()))
