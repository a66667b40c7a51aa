"""Fingerprints: digests of the candles up to a time, one for each UTC month."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.clock import DAY

_DIGITS = 16

Columns = Sequence[NDArray[Any]]
"""Open time, completion, open, high, low, close and volume of some candles in a row."""
DayDigests = Mapping[int, bytes]
"""The digest of the candles of whole UTC days, by the number of the day since 1970."""


class Fingerprint:
    """Digests of the days of candles, from which those of months are quickly computed.

    A digest covers the columns as 64-bit little-endian numbers: it is the same for the same
    candles, whatever their source. Each day is digested when it is first needed.
    """

    def __init__(
        self,
        open_time: NDArray[np.int64],
        columns: Callable[[int, int], Columns],
        known: DayDigests,
    ) -> None:
        """Take the candles' open times, and their columns from a row to another.

        ``known`` are digests of whole days that were computed before.
        """
        self._columns = columns
        days, self._starts, self._stops = _days(open_time)
        self._months = days.astype("datetime64[D]").astype("datetime64[M]").astype(str).tolist()
        self._digests = [known.get(day) for day in days.tolist()]
        self._latest: tuple[int, dict[str, str]] = (0, {})

    def of(self, rows: int) -> dict[str, str]:
        """Return the digest of each month (``2024-10``) of the first ``rows`` candles."""
        if self._latest[0] == rows:
            return self._latest[1].copy()
        months: dict[str, Any] = {}
        for day, (start, stop) in enumerate(zip(self._starts, self._stops, strict=True)):
            if start >= rows:
                break
            month = months.setdefault(self._months[day], sha256())
            month.update(self._digest(day) if stop <= rows else _digest(self._columns(start, rows)))
        digests = {month: digest.hexdigest()[:_DIGITS] for month, digest in months.items()}
        self._latest = (rows, digests)
        return digests.copy()

    def _digest(self, day: int) -> bytes:
        digest = self._digests[day]
        if digest is None:
            columns = self._columns(self._starts[day], self._stops[day])
            digest = self._digests[day] = _digest(columns)
        return digest


def day_digests(columns: Columns) -> dict[int, bytes]:
    """Return the digest of each UTC day of candles, in their order, by its number since 1970."""
    return {
        int(day): _digest([column[start:stop] for column in columns])
        for day, start, stop in zip(*_days(columns[0]), strict=True)
    }


def _days(open_time: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[int], list[int]]:
    """Return each day that has candles, its first row, and the row after its last."""
    days = np.arange(open_time[0] // DAY, open_time[-1] // DAY + 1)
    bounds = np.searchsorted(open_time, np.append(days, days[-1] + 1) * DAY)
    has_candles = bounds[1:] > bounds[:-1]
    return days[has_candles], bounds[:-1][has_candles].tolist(), bounds[1:][has_candles].tolist()


def _digest(columns: Columns) -> bytes:
    digest = sha256()
    for column in columns:
        little_endian = column.astype(column.dtype.newbyteorder("<"), copy=False)
        digest.update(np.ascontiguousarray(little_endian).data)
    return digest.digest()
