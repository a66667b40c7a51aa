"""Time lines as files that other processes map into their memory: written once, shared by all.

A file is a line of JSON, the header, and then the columns one after the other, each from a
multiple of 64 bytes on.
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
from candlestep.data.market.candle_cache import LOOK_BACK, CandleArraysKey, CandleCache
from candlestep.sandbox import Candles
from candlestep.sandbox.market.candles import COLUMNS, CandleArrays, FirstOpen

DIRECTORY = "mapped"
"""In the home."""

_ALIGNMENT = 64


class _Header(msgspec.Struct, frozen=True):
    symbol: str
    intervals: tuple[int, ...]
    first_open: FirstOpen
    rows: int


def write_mapped(path: Path, candles: Candles) -> None:
    """Write the file of a time line; it appears whole or not at all."""
    line = candles.arrays
    header = _Header(*line[:3], rows=len(candles))
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(msgspec.json.encode(header) + b"\n")
        for name in COLUMNS:
            file.write(bytes(-file.tell() % _ALIGNMENT))
            file.write(line.columns[name].data)
    partial.replace(path)


def open_mapped(path: Path) -> Candles:
    """The time line of a file, in memory that all who open it share; it may be deleted then."""
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    line = content.readline()
    header = msgspec.json.decode(line, type=_Header)
    columns = {}
    place = len(line)
    for name, dtype in COLUMNS.items():
        place += -place % _ALIGNMENT
        columns[name] = np.frombuffer(content, dtype, header.rows, place)
        place += columns[name].nbytes
    return Candles.restore(
        CandleArrays(header.symbol, header.intervals, header.first_open, columns)
    )


class MappedCandles:
    """The files of time lines that runs use, those not used for the longest dropped first.

    Any thread may use it. It starts without any file: those of an earlier process may be of
    another store.
    """

    def __init__(self, cache: CandleCache, home: Path, most_bytes: int) -> None:
        self._cache = cache
        self._directory = home / DIRECTORY
        self._most_bytes = most_bytes
        self._writing = threading.Lock()
        self._counting = threading.Lock()
        """Held for no longer than it takes to count: who releases never waits for a load."""
        self._sizes: OrderedDict[Path, int] = OrderedDict()
        self._users: Counter[Path] = Counter()
        try:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageUnavailable(
                f"{self._directory} cannot be made: {error.strerror}"
            ) from None

    @property
    def in_use(self) -> list[Path]:
        """The files that are held, of which none is dropped."""
        return list(self._users)

    def acquire(
        self,
        exchange: str,
        symbols: Sequence[str],
        as_of: int,
        start: int,
        end: int,
        look_back: int = LOOK_BACK,
    ) -> list[Path]:
        """The files of the symbols that have candles, kept until they are released.

        Blocks while they are written. Raises as ``CandleCache.candles`` does, and
        ``StorageUnavailable``.
        """
        keys = self._cache.keys(exchange, symbols, as_of, start, end, look_back)
        with self._writing:
            missing = [key.symbol for key in keys if self._path(key) not in self._sizes]
            if missing:
                found = self._cache.candles(exchange, missing, as_of, start, end, look_back)
                for key in keys:
                    if key.symbol in found:
                        self._write(self._path(key), found[key.symbol])
            with self._counting:
                paths = [path for key in keys if (path := self._path(key)) in self._sizes]
                for path in paths:
                    self._sizes.move_to_end(path)
                self._users.update(paths)
                self._make_room()
        return paths

    def reacquire(self, paths: Sequence[Path]) -> bool:
        """Hold files that were held before, if they are all still there. O(1) for each."""
        with self._counting:
            if not all(path in self._sizes for path in paths):
                return False
            self._users.update(paths)
            return True

    def release(self, paths: Sequence[Path]) -> None:
        """Give back what ``acquire`` gave: the files may be dropped when there is no room.

        Does not wait for those who hold or load.
        """
        with self._counting:
            self._users.subtract(paths)
            self._users += Counter()

    def _write(self, path: Path, candles: Candles) -> None:
        try:
            write_mapped(path, candles)
            size = path.stat().st_size
        except OSError as error:
            raise StorageUnavailable(
                f"{path} cannot be written: {error.strerror}; make room, and try again"
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
