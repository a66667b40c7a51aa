"""A server between a client and another server, which keeps what passes."""

import http.client
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit


class Recorder:
    """Passes requests on to ``url`` and keeps each with the status of its answer."""

    def __init__(self, url: str) -> None:
        """Listen on a free port of this machine, until ``close``."""
        self.requests: list[dict[str, Any]] = []
        address = urlsplit(url)
        kept = self.requests

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                sent = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() in ("x-mbx-apikey", "content-type")
                }
                target = http.client.HTTPConnection(address.hostname or "", address.port)
                target.request(self.command, self.path, body, sent)
                answer = target.getresponse()
                content = answer.read()
                path, _, query = self.path.partition("?")
                kept.append(
                    {
                        "method": self.command,
                        "path": path.split("/", 3)[3],
                        "query": query,
                        "body": body.decode(),
                        "key": self.headers.get("X-MBX-APIKEY") is not None,
                        "status": answer.status,
                        "answer": content.decode(),
                    }
                )
                self.send_response(answer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                target.close()

            do_GET = do_POST = do_PUT = do_DELETE = pass_on

            def log_message(self, format: str, *arguments: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
