"""Candles in files that worker processes map into their memory: written once, shared by all.

A file is a header, which is a line of JSON, followed by the columns, each of which begins at a
multiple of 64 bytes.
"""

import mmap
import shutil
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from candlestep.data.errors import StorageUnavailable
from candlestep.data.market.candle_cache import CandleArraysKey, CandleCache, CandleRequest
from candlestep.data.market.parts import Part
from candlestep.data.symbols import symbol_of_line
from candlestep.sandbox import Candles, FundingRates
from candlestep.sandbox.market.candles import COLUMNS, CandleArrays, FirstOpen
from candlestep.sandbox.market.funding import FundingArrays

DIRECTORY = "mapped"
"""The directory in the home."""

_ALIGNMENT = 64
_FUNDING_COLUMNS = {
    "time": np.dtype(np.int64),
    "rate": np.dtype(np.float64),
    "interval": np.dtype(np.int64),
    "mark": np.dtype(np.float64),
}


class _Header(msgspec.Struct, frozen=True):
    symbol: str
    rows: int
    intervals: tuple[int, ...] = ()
    """Those of candles; none for funding rates."""
    first_open: FirstOpen | None = None


def write_mapped(path: Path, part: Part) -> None:
    """Write candles, mark prices or funding rates to a file; it appears whole or not at all."""
    if isinstance(part, FundingRates):
        names, columns = _FUNDING_COLUMNS, part.arrays.columns
        header = _Header(part.symbol, len(part))
    else:
        line = part.arrays
        names, columns = COLUMNS, line.columns
        header = _Header(line.symbol, len(part), line.intervals, line.first_open)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(msgspec.json.encode(header) + b"\n")
        for name in names:
            file.write(bytes(-file.tell() % _ALIGNMENT))
            file.write(columns[name].data)
    partial.replace(path)


def open_mapped(path: Path) -> Part:
    """Return the content of a file, in memory shared by all processes that open it.

    The file may be deleted afterwards.
    """
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    line = content.readline()
    header = msgspec.json.decode(line, type=_Header)
    columns = {}
    place = len(line)
    for name, dtype in (_FUNDING_COLUMNS if header.first_open is None else COLUMNS).items():
        place += -place % _ALIGNMENT
        columns[name] = np.frombuffer(content, dtype, header.rows, place)
        place += columns[name].nbytes
    if header.first_open is None:
        return FundingRates.restore(FundingArrays(header.symbol, columns))
    return Candles.restore(
        CandleArrays(header.symbol, header.intervals, header.first_open, columns)
    )


class MappedCandles:
    """The files of candles that runs use; the least recently used are deleted first.

    Any thread may use it. Files that an earlier process left are deleted at the start, because they
    may be from another store.
    """

    def __init__(self, cache: CandleCache, home: Path, most_bytes: int) -> None:
        self._cache = cache
        self._directory = home / DIRECTORY
        self._most_bytes = most_bytes
        self._writing = threading.Lock()
        self._counting = threading.Lock()
        """Held only while counting, so that a release never waits for a load."""
        self._sizes: OrderedDict[Path, int] = OrderedDict()
        self._users: Counter[Path] = Counter()
        try:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageUnavailable(
                f"{self._directory} cannot be created: {error.strerror}"
            ) from None

    @property
    def in_use(self) -> list[Path]:
        """The acquired files, which are not deleted."""
        return list(self._users)

    def acquire(self, request: CandleRequest) -> list[Path]:
        """Return the files of the symbols that have candles; they stay until they are released.

        Perpetuals have files of their mark prices and funding rates too.

        Blocks while they are written. Raises the errors of ``CandleCache.candles``, and
        ``StorageUnavailable``.
        """
        keys = self._cache.keys(request)
        with self._writing:
            missing = [key for key in keys if self._path(key) not in self._sizes]
            if missing:
                symbols = list(dict.fromkeys(symbol_of_line(key.symbol) for key in missing))
                loaded = self._cache.parts(request._replace(symbols=symbols))
                for key in missing:
                    if key in loaded:
                        self._write(self._path(key), loaded[key])
            with self._counting:
                paths = [path for key in keys if (path := self._path(key)) in self._sizes]
                for path in paths:
                    self._sizes.move_to_end(path)
                self._users.update(paths)
                self._make_room()
        return paths

    def reacquire(self, paths: Sequence[Path]) -> bool:
        """Acquire files that were acquired before; return False if one has been deleted.

        O(1) per file.
        """
        with self._counting:
            if not all(path in self._sizes for path in paths):
                return False
            self._users.update(paths)
            return True

    def release(self, paths: Sequence[Path]) -> None:
        """Release acquired files, which may then be deleted to make room.

        Does not wait for callers that acquire or load.
        """
        with self._counting:
            self._users.subtract(paths)
            self._users += Counter()

    def _write(self, path: Path, part: Part) -> None:
        try:
            write_mapped(path, part)
            size = path.stat().st_size
        except OSError as error:
            raise StorageUnavailable(
                f"{path} cannot be written: {error.strerror}; free disk space and try again"
            ) from None
        with self._counting:
            self._sizes[path] = size

    def _make_room(self) -> None:
        total = sum(self._sizes.values())
        for path in list(self._sizes):
            if total <= self._most_bytes:
                return
            if not self._users[path]:
                total -= self._sizes.pop(path)
                path.unlink(missing_ok=True)

    def _path(self, key: CandleArraysKey) -> Path:
        return self._directory / ("-".join(map(str, key)) + ".candles")
