"""Dated fee schedules: the rates of makers and takers at a venue, by period."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from operator import attrgetter
from typing import Any

import msgspec

from candlestep.sandbox.clock import LATEST, format_time, parse_time
from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.market.symbols import name_of_candles
from candlestep.sandbox.money import PRICE_PLACES, format_decimal, parse_share

_FIELD = "fee_schedule"
_MOST_ENTRIES = 1000
_REQUIRED = ("from", "maker", "taker")
_OPTIONAL = ("until", "symbols", "source")
_FOREVER = LATEST + 1


class FeePeriod(msgspec.Struct, frozen=True, gc=False):
    """The rates in force from ``start`` until just before ``stop`` (milliseconds)."""

    start: int
    stop: int
    maker: Decimal
    """Fraction of the notional."""
    taker: Decimal

    @property
    def highest(self) -> Decimal:
        """The higher of the two rates."""
        return max(self.maker, self.taker)


class FeeSchedule(msgspec.Struct, frozen=True):
    """The periods of a venue's fees during a session; those for the same symbols do not overlap.

    The period in force for a symbol is the one that names it, else the one for all symbols.
    """

    general: tuple[FeePeriod, ...]
    """Periods for all symbols, by time; they cover the whole session."""
    special: dict[str, tuple[FeePeriod, ...]]
    """Periods that name symbols, by symbol and time."""

    @classmethod
    def parse(cls, entries: object, start: int, end: int) -> "FeeSchedule":
        """Parse the part of a venue's schedule in force from ``start`` to ``end`` (ms, inclusive).

        Each entry is a mapping of ``from`` (ISO 8601 or milliseconds), ``maker`` and ``taker``
        (fractions of the notional), and optionally ``until`` (by default the next entry for the
        same symbols), ``symbols`` (by default all) and ``source``, which is ignored. Raises
        ``InvalidParameter`` for entries that overlap or do not cover the whole session.
        """
        for_all: list[FeePeriod] = []
        by_symbol: dict[str, list[FeePeriod]] = {}
        for number, raw_entry in enumerate(_require_list(entries)):
            field = f"{_FIELD}[{number}]"
            entry = _check_entry(field, raw_entry)
            period = _parse_period(field, entry)
            if entry.get("symbols") is None:
                for_all.append(period)
            else:
                for symbol in _parse_symbols(f"{field}.symbols", entry["symbols"]):
                    by_symbol.setdefault(symbol, []).append(period)
        general = _in_sequence("all", for_all, start, end)
        _require_cover(general, start, end)
        special = {
            symbol: periods
            for symbol in sorted(by_symbol)
            if (periods := _in_sequence(abbreviate(symbol), by_symbol[symbol], start, end))
        }
        return cls(general, special)

    def in_force(self, symbol: str, time: int) -> FeePeriod:
        """Return the period in force for ``symbol`` at a ``time`` of the session. O(log n)."""
        period = _at(self.special.get(symbol, ()), time) or _at(self.general, time)
        assert period is not None, "the schedule covers the session"
        return period

    def highest(self, symbol: str) -> Decimal:
        """Return the highest rate for ``symbol`` during the session. Linear."""
        periods = (*self.general, *self.special.get(symbol, ()))
        return max(period.highest for period in periods)

    def entries(self) -> list[dict[str, Any]]:
        """Return the schedule as plain data, from which ``parse`` makes an equal one."""
        symbols_of: dict[FeePeriod, list[str]] = {}
        for symbol, periods in self.special.items():
            for period in periods:
                symbols_of.setdefault(period, []).append(symbol)
        return [
            *(_entry(period) for period in self.general),
            *(_entry(period) | {"symbols": symbols} for period, symbols in symbols_of.items()),
        ]


def _require_list(entries: object) -> Sequence[object]:
    if isinstance(entries, list | tuple) and 1 <= len(entries) <= _MOST_ENTRIES:
        return entries
    raise InvalidParameter(
        _FIELD,
        f"the fee_model match_exchange needs a venue's schedule, a list of 1 to {_MOST_ENTRIES}"
        " entries of from, maker and taker",
    )


def _check_entry(field: str, entry: object) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise InvalidParameter(field, f"must have {', '.join(_REQUIRED)}, got {abbreviate(entry)}")
    for name in _REQUIRED:
        if entry.get(name) is None:
            raise InvalidParameter(f"{field}.{name}", "is missing")
    for name in entry:
        if name not in _REQUIRED + _OPTIONAL:
            raise InvalidParameter(
                field,
                f"has the unknown field {abbreviate(name)!r}; an entry takes"
                f" {', '.join(_REQUIRED + _OPTIONAL)}",
            )
    return entry


def _parse_period(field: str, entry: Mapping[str, Any]) -> FeePeriod:
    start = parse_time(entry["from"], f"{field}.from")
    stop = _FOREVER
    if entry.get("until") is not None:
        stop = parse_time(entry["until"], f"{field}.until")
        if stop <= start:
            raise InvalidParameter(f"{field}.until", "must be after from")
    maker, taker = (
        parse_share(f"{field}.{name}", entry[name], PRICE_PLACES, 1) for name in ("maker", "taker")
    )
    return FeePeriod(start, stop, maker, taker)


def _parse_symbols(field: str, symbols: object) -> Iterable[str]:
    if (
        isinstance(symbols, list | tuple)
        and 1 <= len(symbols) <= _MOST_ENTRIES
        and all(isinstance(symbol, str) for symbol in symbols)
    ):
        return dict.fromkeys(map(name_of_candles, symbols))
    raise InvalidParameter(
        field, f"must be a list of 1 to {_MOST_ENTRIES} symbols such as 'BTCUSDT', or be left out"
    )


def _in_sequence(
    symbols: str, periods: list[FeePeriod], start: int, end: int
) -> tuple[FeePeriod, ...]:
    """Return the periods of the session by time, each ended by the next; raise on an overlap."""
    ordered = sorted(periods, key=attrgetter("start"))
    for number, (period, following) in enumerate(pairwise(ordered)):
        is_open = period.stop == _FOREVER
        if period.start == following.start or (period.stop > following.start and not is_open):
            raise InvalidParameter(
                _FIELD,
                f"two entries for {symbols} overlap at {format_time(following.start)}; end the first"
                " where the second begins",
            )
        if is_open:
            ordered[number] = msgspec.structs.replace(period, stop=following.start)
    return tuple(period for period in ordered if period.start <= end and period.stop > start)


def _require_cover(general: Sequence[FeePeriod], start: int, end: int) -> None:
    covered = start
    for period in general:
        if period.start > covered:
            break
        covered = period.stop
    if covered <= end:
        raise InvalidParameter(
            "fee_model",
            f"match_exchange: the venue's fees at {format_time(covered)} are unknown; move"
            " start_time or end_time, or choose another fee_model",
        )


def _at(periods: Sequence[FeePeriod], time: int) -> FeePeriod | None:
    index = bisect_right(periods, time, key=attrgetter("start")) - 1
    return periods[index] if index >= 0 and time < periods[index].stop else None


def _entry(period: FeePeriod) -> dict[str, Any]:
    entry: dict[str, Any] = {"from": format_time(period.start)}
    if period.stop != _FOREVER:
        entry["until"] = format_time(period.stop)
    return entry | {"maker": format_decimal(period.maker), "taker": format_decimal(period.taker)}
