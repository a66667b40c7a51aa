"""Fingerprints: digests of the candles up to a time, one for each UTC month."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.clock import DAY, format_time

_DIGITS = 16


class Fingerprint:
    """Digests of the days of candles, from which those of months are quickly computed.

    A digest covers the columns open time, completion, open, high, low, close and volume, as
    64-bit little-endian numbers: it is the same for the same candles, whatever their source.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Digest every day of the candles with these ``columns``, in their order.

        Linear: about 30 ms for a year of minutes.
        """
        self._columns = tuple(
            column.astype(column.dtype.newbyteorder("<"), copy=False) for column in columns.values()
        )
        days = columns["open_time"] // DAY
        starts = np.flatnonzero(np.diff(days, prepend=days[:1] - 1))
        self._starts = starts
        self._months = [format_time(int(day) * DAY)[:7] for day in days[starts]]
        self._stops = np.append(starts[1:], len(days))
        self._days = [
            self._digest(int(start), int(stop))
            for start, stop in zip(starts, self._stops, strict=True)
        ]

    def of(self, rows: int) -> dict[str, str]:
        """Return the digest of each month (``2024-10``) of the first ``rows`` candles."""
        whole = int(np.searchsorted(self._stops, rows, side="right"))
        digests = self._days[:whole]
        if whole < len(self._starts) and self._starts[whole] < rows:
            digests = [*digests, self._digest(int(self._starts[whole]), rows)]
        months = {month: sha256() for month in self._months[: len(digests)]}
        for month, digest in zip(self._months, digests, strict=False):
            months[month].update(digest)
        return {month: digest.hexdigest()[:_DIGITS] for month, digest in months.items()}

    def _digest(self, start: int, stop: int) -> bytes:
        digest = sha256()
        for column in self._columns:
            digest.update(column[start:stop].data)
        return digest.digest()
