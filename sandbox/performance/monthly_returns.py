"""Returns of calendar months (UTC), which multiply to the total return."""

import msgspec
import numpy as np

from candlestep.sandbox.performance.metrics import EquitySeries


class MonthlyReturn(msgspec.Struct, frozen=True):
    """The return of one month, or of the part of it that a series covers."""

    month: str
    """Such as ``2025-01``."""
    return_pct: float | None
    """In percent of the equity before it; None if that was not above 0."""


def monthly_returns(series: EquitySeries, starting_balance: float) -> list[MonthlyReturn]:
    """Return the return of each month from the first to the last time of the series, in order.

    A change at midnight between two months belongs to the one that ends, as the candle that
    completes then does. The first month starts from ``starting_balance``. Linear in the series.
    """
    first, last = series.time[[0, -1]].tolist()
    every = np.arange(_month(first), max(_month(first), _month(last - 1)) + 1)
    ends_of_months = (every + 1).astype("datetime64[ms]").astype(np.int64)
    lasts = np.searchsorted(series.time, ends_of_months, side="right") - 1
    ends = series.equity[np.maximum(lasts, 0)].tolist()
    starts = [starting_balance, *ends[:-1]]
    return [
        MonthlyReturn(str(month), (end / start - 1) * 100 if start > 0 else None)
        for month, start, end in zip(every, starts, ends, strict=True)
    ]


def _month(time: int) -> np.datetime64:
    month: np.datetime64 = np.datetime64(time, "ms").astype("datetime64[M]")
    return month
