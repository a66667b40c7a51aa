"""Datasets: names for the candles of one symbol, one interval and one time, ``btcusdt-1m-2024``.

The time is a year, or two days, both included: ``btcusdt-1h-20240115-20240630``. Candles of another
exchange than the default one have it in front: ``kraken:btceur-1h-2024``.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import NamedTuple

from candlestep.data.market.catalogue import Series, by_symbol, covered_periods
from candlestep.data.market.spans import Span
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.clock import DAY, INTERVALS, interval_name, parse_time
from candlestep.sandbox.errors import NoPrice, abbreviate

_INTERVALS = "|".join(INTERVALS)
_NAME = re.compile(
    rf"(?:([a-z0-9][a-z0-9_.-]{{0,31}}):)?([a-z0-9]{{2,40}})-({_INTERVALS})"
    r"-(?:([0-9]{4})|([0-9]{8})-([0-9]{8}))",
    re.ASCII,
)
_FORM = (
    "write it as symbol, interval and year or days: btcusdt-1m-2024, btcusdt-1h-20240115-20240630"
)


class Dataset(NamedTuple):
    """Candles under a name; times and the interval in milliseconds."""

    dataset_id: str
    exchange: str
    symbol: str
    quote: str
    interval: int
    start: int
    """Open time of the first candle."""
    end: int
    """Completion of the last one."""
    candles: int


def list_datasets(series: Iterable[Series]) -> list[Dataset]:
    """Every year of every symbol at every interval that its candles make, and where there are
    several years, all of them. Linear in their number and in the holes."""
    found = []
    for group in by_symbol(series).values():
        for interval in INTERVALS.values():
            spans = covered_periods(group, interval)
            if not spans:
                continue
            first, last = _moment(spans[0][0]), _moment(spans[-1][1] - 1)
            times = [str(year) for year in range(first.year, last.year + 1)]
            if len(times) > 1:
                times.append(f"{first:%Y%m%d}-{last:%Y%m%d}")
            for text in times:
                dataset = _dataset(group, interval, text, spans)
                if dataset is not None:
                    found.append(dataset)
    return found


def find_dataset(series: Sequence[Series], dataset_id: str) -> Dataset:
    """The candles of this name; raises ``InvalidParameter`` for what is no name, and ``NoPrice``
    where there are none."""
    match = _NAME.fullmatch(dataset_id.strip().lower())
    if match is None:
        raise InvalidParameter("dataset_id", f"{abbreviate(dataset_id)!r} is no dataset; {_FORM}")
    exchange, symbol, interval, *times = match.groups()
    text = "-".join(time for time in times if time is not None)
    _span(text)
    group = by_symbol(series).get((exchange or DEFAULT_EXCHANGE, symbol.upper()), [])
    spans = covered_periods(group, INTERVALS[interval])
    found = _dataset(group, INTERVALS[interval], text, spans) if spans else None
    if found is None:
        known = [each.dataset_id for each in list_datasets(series)]
        near = get_close_matches(match[0], known, n=3)
        raise NoPrice(
            f"there are no candles of {match[0]}"
            + (f"; there are {', '.join(near)}" if near else "")
            + "; GET /api/v2/backtest/datasets lists them all",
            dataset_id=match[0],
        )
    return found


def _dataset(
    group: Sequence[Series], interval: int, text: str, spans: Sequence[Span]
) -> Dataset | None:
    """The candles of a time, as its name says it; None if there are none."""
    start, end = _span(text)
    inside = [(max(a, start), min(b, end)) for a, b in spans if a < end and b > start]
    if not inside:
        return None
    one = group[0]
    prefix = "" if one.exchange == DEFAULT_EXCHANGE else f"{one.exchange}:"
    return Dataset(
        f"{prefix}{one.symbol.lower()}-{interval_name(interval)}-{text}",
        one.exchange,
        one.symbol,
        one.quote,
        interval,
        inside[0][0],
        inside[-1][1],
        sum(b - a for a, b in inside) // interval,
    )


def _span(text: str) -> Span:
    """From the first day's start to the last one's end; raises ``InvalidParameter``."""
    first, _, last = text.partition("-")
    if not last:
        first, last = f"{first}0101", f"{first}1231"
    start, end = parse_time(first, "dataset_id"), parse_time(last, "dataset_id") + DAY
    if start >= end:
        raise InvalidParameter("dataset_id", f"{text} ends before it starts; {_FORM}")
    return start, end


def _moment(time: int) -> datetime:
    return datetime.fromtimestamp(time // 1000, UTC)
