"""An archive of candle files on loopback that can be made to misbehave."""

import hashlib
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.candle_files import archive_text, rows, write
from tests.support.perpetual_files import LAYOUTS


class Archive:
    """A server with the layout of the archive. A test can choose its misbehaviour."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.requests: list[tuple[str, str | None]] = []
        self.cut_after: list[int] = []
        """Lengths in bytes after which the next bodies of zip files are cut off."""
        self.statuses: list[int] = []
        """Statuses of the next answers."""
        self.supports_range = True
        handler = partial(_Handler, self)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def publish(self, symbol: str, month: str, count: int = 2000) -> bytes:
        folder = self.directory / f"data/spot/monthly/klines/{symbol}/1m"
        folder.mkdir(parents=True, exist_ok=True)
        path = write(folder / f"{symbol}-1m-{month}.zip", archive_text(rows(count)))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_name(f"{path.name}.CHECKSUM").write_text(f"{digest}  {path.name}\n")
        return path.read_bytes()

    def publish_perpetual(self, symbol: str, month: str) -> None:
        """Publish a month of candles and mark prices of an hour, and of funding rates."""
        folder = f"data/futures/um/monthly/{{}}/{symbol}"
        name = f"{symbol}-{{}}-{month}"
        candles, marks, rates = (
            LAYOUTS[f"archive {kind}"].content for kind in ("candles", "marks", "funding")
        )
        for write_to, kind, part in (
            (candles, "klines", "1h"), (marks, "markPriceKlines", "1h"),
            (rates, "fundingRate", None),
        ):  # fmt: skip
            path = self.directory / folder.format(kind)
            path = path / (part or "") / f"{name.format(part or kind)}.zip"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_to(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            path.with_name(f"{path.name}.CHECKSUM").write_text(f"{digest}  {path.name}\n")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, archive: Archive, *arguments: object) -> None:
        self.archive = archive
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.archive.requests.append((self.path.rsplit("/", 1)[-1], wanted))
        path = self.archive.directory / self.path.lstrip("/")
        status = self.archive.statuses.pop(0) if self.archive.statuses else 200
        if status != 200 or not path.is_file():
            self.send_error(status if status != 200 else 404)
            return
        content = path.read_bytes()
        start = 0
        if wanted and self.archive.supports_range:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if path.suffix == ".zip" and self.archive.cut_after:
            body = body[: self.archive.cut_after.pop(0)]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass
