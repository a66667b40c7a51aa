"""Downloads of months from the public kline archive: verified, resumed and retried."""

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import httpx

from candlestep.data.errors import DownloadFailed
from candlestep.data.imports.kinds import Kind
from candlestep.data.symbols import PERPETUAL, is_perpetual, normalise_symbol
from candlestep.sandbox import InvalidParameter

DEFAULT_BASE_URL = "https://data.binance.vision"

RETRY_WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait before each retry."""

ReportBytes = Callable[[int, int], None]
"""Receives the number of bytes fetched of a file, and its size."""

Answer = TypeVar("Answer")

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)
_FOLDERS = {"candles": "klines", "mark": "markPriceKlines", "funding": "fundingRate"}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIMEOUT = httpx.Timeout(30.0)


def months(first: str, last: str) -> list[str]:
    """Return the months from ``first`` to ``last``, both inclusive, as ``YYYY-MM``.

    Raises ``InvalidParameter``.
    """
    numbers = []
    for field, text in (("first", first), ("last", last)):
        match = _MONTH.fullmatch(text)
        if not match:
            raise InvalidParameter(field, f"{text!r} is not a month such as 2024-10")
        numbers.append(int(match[1]) * 12 + int(match[2]) - 1)
    if numbers[0] > numbers[1]:
        raise InvalidParameter("last", f"{last} is before {first}")
    return [f"{n // 12:04}-{n % 12 + 1:02}" for n in range(numbers[0], numbers[1] + 1)]


class ArchivedMonth(NamedTuple):
    """A month of candles, or of mark prices or funding rates of a perpetual, in the archive."""

    symbol: str
    """The name of the market; a perpetual is named like ``BTCUSDT-PERP``."""
    month: str
    interval: str = "1m"
    """The interval of candles and mark prices; funding has none."""
    kind: Kind = "candles"

    @property
    def pair(self) -> str:
        """The symbol as the archive spells it."""
        return self.symbol.removesuffix(PERPETUAL)

    @property
    def name(self) -> str:
        """The name of the file."""
        part = "fundingRate" if self.kind == "funding" else self.interval
        return f"{self.pair}-{part}-{self.month}.zip"

    @property
    def folder(self) -> str:
        """The folder of the file in the archive."""
        market = "futures/um" if is_perpetual(self.symbol) else "spot"
        folder = f"{market}/monthly/{_FOLDERS[self.kind]}/{self.pair}"
        return folder if self.kind == "funding" else f"{folder}/{self.interval}"


def fetch_month(
    wanted: ArchivedMonth,
    directory: Path,
    *,
    base_url: str = DEFAULT_BASE_URL,
    progress: ReportBytes | None = None,
    retry_waits: Sequence[float] | None = None,
) -> Path | None:
    """Download the zip file of a month and return its path.

    Returns None if the archive does not have the month. A file in ``directory`` with the right
    checksum is not downloaded again, and an interrupted download is resumed. Those of perpetuals are
    in folders as in the archive, because files of candles and mark prices have the same names.
    ``retry_waits`` are the seconds to wait before each retry, by default ``RETRY_WAITS``. Raises
    ``DownloadFailed`` if the archive cannot be reached, or if its file does not match its checksum.
    """
    wanted = wanted._replace(symbol=normalise_symbol(wanted.symbol))
    name = wanted.name
    url = f"{base_url.rstrip('/')}/data/{wanted.folder}/{name}"
    if is_perpetual(wanted.symbol):
        directory /= wanted.folder
    target = directory / name
    partial = directory / f"{name}.partial"
    waits = RETRY_WAITS if retry_waits is None else retry_waits
    directory.mkdir(parents=True, exist_ok=True)
    with httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client:
        checksum = _checksum(client, f"{url}.CHECKSUM", waits)
        if checksum is None:
            return None
        if target.exists() and _sha256(target) == checksum:
            return target
        # A partial file may be from an older version of the month: then start again from nothing.
        for _ in range(2):
            if not _fetch(client, url, partial, progress, waits):
                return None
            if _sha256(partial) == checksum:
                partial.replace(target)
                return target
            partial.unlink()
    raise DownloadFailed(
        f"{url} does not have the checksum that the archive states; try again later", url=url
    )


def _checksum(client: httpx.Client, url: str, waits: Sequence[float]) -> str | None:
    """Return the SHA-256 in a file of sha256sum's format; None if the file does not exist."""

    def get() -> str | None:
        answer = client.get(url)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        answer.raise_for_status()
        return answer.text

    text = _retry(url, get, waits)
    if text is None:
        return None
    words = text.lower().split()
    if not words or not _SHA256.fullmatch(words[0]):
        raise DownloadFailed(f"{url} is not a checksum file; is the base URL right?", url=url)
    return words[0]


def _fetch(
    client: httpx.Client,
    url: str,
    partial: Path,
    progress: ReportBytes | None,
    waits: Sequence[float],
) -> bool:
    """Download the rest of a file; return False if it does not exist."""

    def get() -> bool:
        have = partial.stat().st_size if partial.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with client.stream("GET", url, headers=headers) as answer:
            if answer.status_code == httpx.codes.NOT_FOUND:
                return False
            if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return True
            answer.raise_for_status()
            resumed = answer.status_code == httpx.codes.PARTIAL_CONTENT
            done = have if resumed else 0
            total = done + int(answer.headers.get("Content-Length", 0))
            with partial.open("ab" if resumed else "wb") as file:
                for chunk in answer.iter_raw():
                    file.write(chunk)
                    done += len(chunk)
                    if progress:
                        progress(done, total)
        return True

    return _retry(url, get, waits)


def _retry(url: str, get: Callable[[], Answer], waits: Sequence[float]) -> Answer:
    """Return the result of ``get``; retry if the connection breaks or the server has a fault."""
    reason = ""
    for wait in (*waits, None):
        try:
            return get()
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            reason = f"the archive answers {status}"
            if status < 500 and status != httpx.codes.TOO_MANY_REQUESTS:
                break
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise InvalidParameter("base_url", f"{url} is not a URL: {error}") from None
        except (httpx.TransportError, httpx.TooManyRedirects) as error:
            reason = str(error) or type(error).__name__
        except OSError as error:
            raise DownloadFailed(f"could not write: {error}", url=url) from None
        if wait is not None:
            time.sleep(wait)
    raise DownloadFailed(f"{url} could not be fetched: {reason}; try again later", url=url)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
