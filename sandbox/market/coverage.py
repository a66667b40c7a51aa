"""Coverage: the share of a session's time for which there are candles, and warnings where not."""

from collections.abc import Mapping, Sequence
from heapq import nlargest
from typing import NamedTuple

import msgspec

from candlestep.sandbox.clock import Clock, format_time
from candlestep.sandbox.errors import NoPrice
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.market.spans import Span, intersect_spans, subtract_spans

MOST_WARNINGS = 20
"""The number of warnings about one session; the shortest gaps beyond it share one."""

_SYMBOLS_NAMED = 3


class SessionWarning(msgspec.Struct, frozen=True):
    """A warning about a stretch of a session. Times are in milliseconds."""

    code: str
    """``NO_CANDLES``: a symbol has none in the whole session; ``GAP``: it has none in a stretch;
    ``MORE_GAPS``: further stretches, of any symbols. Results of perpetuals have ``DATA_ENDED`` too,
    the candles of a position ended before the session, and ``MARKS_UNUSED``, positions are valued at
    last prices because mark prices are coarser than the candles."""
    symbol: str | None
    """None in a warning about all symbols."""
    start: int
    end: int
    message: str


class Coverage(NamedTuple):
    """The candles on which a session rests."""

    shares: dict[str, float]
    """By symbol, the share of the session's steps whose time lies within a candle: after its open,
    and not after its completion. From 0 to 1."""
    warnings: tuple[SessionWarning, ...]
    """A warning for each stretch in which a symbol has no candles, in order of symbol and time."""
    symbols: int
    """The number of symbols that have candles in the session."""


def coverage_of(clock: Clock, covered: Mapping[str, Sequence[Span]]) -> Coverage:
    """Return the coverage of a session, given the spans of time that each symbol's candles cover.

    The spans are sorted; only the parts between the session's start and end count. Linear.
    """
    session = [(clock.start, clock.end)]
    covered = {symbol: intersect_spans(spans, session) for symbol, spans in covered.items()}
    shares = {
        symbol: covered_steps(clock, spans) / clock.total_steps for symbol, spans in covered.items()
    }
    gaps = [
        (symbol, gap)
        for symbol, spans in covered.items()
        for gap in subtract_spans(clock.start, clock.end, spans)
    ]
    with_candles = sum(bool(spans) for spans in covered.values())
    return Coverage(shares, tuple(_warnings(gaps, clock)), with_candles)


def market_coverage(clock: Clock, market: Market) -> Coverage:
    """Return the coverage of a session on ``market``; see ``coverage_of``."""
    return coverage_of(
        clock,
        {
            symbol: market.candles_of(symbol).covered(clock.start, clock.end)
            for symbol in market.symbols
        },
    )


def covered_steps(clock: Clock, spans: Sequence[Span]) -> int:
    """Count the steps whose time lies within one of the spans: after its start, or at its end."""
    start, interval = clock.start, clock.interval
    return sum((b - start) // interval - (a - start) // interval for a, b in spans)


def require_within(clock: Clock, candles: Span, symbols: Sequence[str]) -> None:
    """Raise ``NoPrice`` unless the first and the last step lie within the time of ``candles``.

    ``candles`` is the first open and the last completion of any of ``symbols``.
    """
    first, last = candles
    if first <= clock.start and clock.end <= last:
        return
    is_early = clock.start < first
    field, step = ("start_time", clock.start) if is_early else ("end_time", clock.end)
    names = ", ".join(symbols[:_SYMBOLS_NAMED]) + (", …" if len(symbols) > _SYMBOLS_NAMED else "")
    raise NoPrice(
        f"{field}: the {'first' if is_early else 'last'} step, at {format_time(step)}, is"
        f" {'before the first' if is_early else 'after the last'} candle: there are candles of"
        f" {names} from {format_time(first)} to {format_time(last)}; stay within that range, or"
        " set allow_gaps to true",
        **{"field": field, "from": format_time(first), "to": format_time(last)},
    )


def _warnings(gaps: Sequence[tuple[str, Span]], clock: Clock) -> list[SessionWarning]:
    """Return a warning for each gap; the shortest beyond ``MOST_WARNINGS`` share one."""
    if len(gaps) <= MOST_WARNINGS:
        return [_warning(symbol, gap, clock) for symbol, gap in gaps]
    places = nlargest(
        MOST_WARNINGS - 1, range(len(gaps)), key=lambda place: gaps[place][1][1] - gaps[place][1][0]
    )
    named = set(places)
    rest = [gap for place, gap in enumerate(gaps) if place not in named]
    start, end = min(gap[0] for _, gap in rest), max(gap[1] for _, gap in rest)
    symbols = len({symbol for symbol, _ in rest})
    more = SessionWarning(
        "MORE_GAPS",
        None,
        start,
        end,
        f"{len(rest)} shorter stretches without candles, of {symbols} symbol"
        f"{'' if symbols == 1 else 's'}, are not listed",
    )
    return [*(_warning(*gaps[place], clock) for place in sorted(places)), more]


def _warning(symbol: str, gap: Span, clock: Clock) -> SessionWarning:
    start, end = gap
    if (start, end) == (clock.start, clock.end):
        message = f"{symbol} has no candles in the whole session"
        code = "NO_CANDLES"
    else:
        message = f"{symbol} has no candles from {format_time(start)} to {format_time(end)}"
        code = "GAP"
    effect = "its price stays as it is, or is missing, and no pending order triggers"
    return SessionWarning(code, symbol, start, end, f"{message}: {effect}")
