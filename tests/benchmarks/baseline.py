"""The baseline of the HTTP rows: a Starlette app whose one route returns the bytes of a file.

Run as ``python -m tests.benchmarks.baseline FILE``; it prints its port when it is ready.
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


def app(body: bytes) -> Starlette:
    """Return an app that answers every POST to its one route with ``body``."""

    async def same_bytes(request: Request) -> Response:
        return Response(body, media_type="application/json")

    return Starlette(routes=[Route("/step", same_bytes, methods=["POST"])])


async def serve(body: bytes) -> None:
    """Serve the app on a port that the system chooses, and print the port."""
    # The event loop sends small answers at once only if the socket names its protocol, as ours does.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        app(body), log_config=None, access_log=False, server_header=False, lifespan="off"
    )
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]).read_bytes()))
