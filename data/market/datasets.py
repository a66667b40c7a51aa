"""Datasets: names for the candles of a symbol, an interval and a period, ``btcusdt-1m-2024``.

The period is a year, or two days, both inclusive: ``btcusdt-1h-20240115-20240630``. The name of an
exchange other than the default one comes first: ``kraken:btceur-1h-2024``. Those of a perpetual
are ``solusdt-perp-1h-2024``; ``sol-perp-1h-2024`` names the one in USDT too.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import NamedTuple

from candlestep.data.market.catalogue import Series, by_symbol, covered_periods
from candlestep.data.market.time_line import periods, time_line, whole_candles
from candlestep.data.symbols import DEFAULT_EXCHANGE, DEFAULT_QUOTE, PERPETUAL, is_perpetual
from candlestep.sandbox import INTERVALS, InvalidParameter, NoPrice, interval_name, parse_time
from candlestep.sandbox.clock import DAY
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.market.spans import Span

_INTERVALS = "|".join(INTERVALS)
_NAME = re.compile(
    rf"(?:([a-z0-9][a-z0-9_.-]{{0,31}}):)?([a-z0-9]{{2,40}}(?:-perp)?)-({_INTERVALS})"
    r"-(?:([0-9]{4})|([0-9]{8})-([0-9]{8}))",
    re.ASCII,
)
_FORM = (
    "write it as symbol, interval and year or days: btcusdt-1m-2024, btcusdt-1h-20240115-20240630"
)


class Dataset(NamedTuple):
    """Candles under a name. Times and the interval are in milliseconds."""

    dataset_id: str
    exchange: str
    symbol: str
    quote: str
    interval: int
    start: int
    """The open time of the first candle."""
    end: int
    """The completion of the last candle."""
    candles: int


def list_datasets(all_series: Iterable[Series]) -> list[Dataset]:
    """Return a dataset for every symbol, interval and year, and one for all of its years.

    Intervals are those that the candles of the symbol can make. A dataset has the candles that lie
    in its period as a whole. Linear in the number of datasets and of gaps.
    """
    datasets = []
    for group in by_symbol(all_series).values():
        line = time_line(group)
        for interval in INTERVALS.values():
            spans = periods(line, interval)
            if not spans:
                continue
            first, last = _moment(spans[0][0]), _moment(spans[-1][1] - 1)
            times = [str(year) for year in range(first.year, last.year + 1)]
            if len(times) > 1:
                times.append(f"{first:%Y%m%d}-{last:%Y%m%d}")
            for text in times:
                dataset = _dataset(group, interval, text, spans)
                if dataset is not None:
                    datasets.append(dataset)
    return datasets


def find_dataset(all_series: Sequence[Series], dataset_id: str) -> Dataset:
    """Return the dataset of this name.

    Raises ``InvalidParameter`` for a malformed name, and ``NoPrice`` if it has no candles.
    """
    match = _NAME.fullmatch(dataset_id.strip().lower())
    if match is None:
        raise InvalidParameter(
            "dataset_id", f"{abbreviate(dataset_id)!r} is not a dataset; {_FORM}"
        )
    exchange, symbol, interval, *times = match.groups()
    text = "-".join(time for time in times if time is not None)
    _span(text)
    group = _group(all_series, exchange or DEFAULT_EXCHANGE, symbol.upper())
    spans = covered_periods(group, INTERVALS[interval])
    dataset = _dataset(group, INTERVALS[interval], text, spans) if spans else None
    if dataset is None:
        known = [dataset.dataset_id for dataset in list_datasets(all_series)]
        near = get_close_matches(match[0], known, n=3)
        raise NoPrice(
            f"there are no candles of {match[0]}"
            + (f"; there are {', '.join(near)}" if near else "")
            + "; GET /api/v2/backtest/datasets lists them all",
            dataset_id=match[0],
        )
    return dataset


def _group(all_series: Iterable[Series], exchange: str, symbol: str) -> Sequence[Series]:
    """Return the series of a symbol, or of a perpetual whose coin alone is named."""
    groups = by_symbol(all_series)
    in_default_quote = symbol.removesuffix(PERPETUAL) + DEFAULT_QUOTE + PERPETUAL
    names = (symbol, in_default_quote) if is_perpetual(symbol) else (symbol,)
    return next((groups[exchange, name] for name in names if (exchange, name) in groups), [])


def _dataset(
    group: Sequence[Series], interval: int, text: str, spans: Sequence[Span]
) -> Dataset | None:
    """Return the dataset of the period that ``text`` names; None if it has no candles."""
    start, end = _span(text)
    parts = [
        whole_candles(a, interval, max(a, start), min(b, end))
        for a, b in spans
        if a < end and b > start
    ]
    inside = [(first, last) for first, last in parts if first < last]
    if not inside:
        return None
    first = group[0]
    prefix = "" if first.exchange == DEFAULT_EXCHANGE else f"{first.exchange}:"
    return Dataset(
        f"{prefix}{first.symbol.lower()}-{interval_name(interval)}-{text}",
        first.exchange,
        first.symbol,
        first.quote,
        interval,
        inside[0][0],
        max(last for _, last in inside),
        sum(b - a for a, b in inside) // interval,
    )


def _span(text: str) -> Span:
    """Return the span from the first day's start to the last day's end.

    Raises ``InvalidParameter``.
    """
    first, _, last = text.partition("-")
    if not last:
        first, last = f"{first}0101", f"{first}1231"
    start, end = parse_time(first, "dataset_id"), parse_time(last, "dataset_id") + DAY
    if start >= end:
        raise InvalidParameter("dataset_id", f"{text} ends before it starts; {_FORM}")
    return start, end


def _moment(time: int) -> datetime:
    return datetime.fromtimestamp(time // 1000, UTC)
