"""Digests of the candles that a session can read, and where those of two recordings differ.

Those of the mark prices and the funding rates of a perpetual are under the names of their lines,
such as ``SOLUSDT-PERP.FUNDING``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from candlestep.data.symbols import name_of_line
from candlestep.sandbox import Market, SandboxError, SessionConfig, format_time
from candlestep.sandbox.clock import DAY

_SHOWN = 5
_MONTH, _DAY = len("2024-10"), len("2024-10-01")

Fingerprints = dict[str, dict[str, str]]
"""For each symbol, the digest of each month, as ``Candles.fingerprint`` returns it, or of each day."""


class CandlesDiffer(SandboxError):
    """The candles differ from those of a recording; ``details`` has the symbols and months."""

    code = "CANDLES_DIFFER"


class Difference(msgspec.Struct, frozen=True):
    """The months in which the candles of a symbol differ from those of a recording."""

    symbol: str
    months: tuple[str, ...]
    days: tuple[str, ...] = ()
    """The days in these months that differ; empty unless both sides have digests of their days."""


def fingerprint(config: SessionConfig, market: Market) -> Fingerprints:
    """Return a digest of the candles that a session can read, for each line and month."""
    end = config.clock.time(config.clock.total_steps)
    digests = {symbol: market.candles_of(symbol).fingerprint(end) for symbol in market.symbols}
    for symbol in market.symbols:
        lines = {"mark": market.marks_of(symbol), "funding": market.funding_of(symbol)}
        for kind, line in lines.items():
            months = {} if line is None else line.fingerprint(end)
            if months:
                digests[name_of_line(symbol, kind)] = months
    return digests


def differences(
    recorded: Fingerprints, present: Fingerprints, days: "KnownDays | None" = None
) -> Sequence[Difference]:
    """Return the months in which two fingerprints differ, by symbol, and the days if known."""
    found = []
    for symbol in sorted({*recorded, *present}):
        months = _different(recorded.get(symbol, {}), present.get(symbol, {}))
        if months:
            different_days = () if days is None else days.different(symbol, months)
            found.append(Difference(symbol, months, different_days))
    return found


class KnownDays(NamedTuple):
    """The digests of the whole days of two fingerprints."""

    recorded: Fingerprints
    present: Fingerprints
    end: int
    """The end of the session, in ms: a day that it ends in has no digest."""

    def different(self, symbol: str, months: Sequence[str]) -> tuple[str, ...]:
        """Return the days of a symbol that differ in some months, which differ themselves."""
        days = _different(self.recorded.get(symbol, {}), self.present.get(symbol, {}))
        last = format_time(self.end)[:_DAY] if self.end % DAY else ""
        found = []
        for month in months:
            of_month = [day for day in days if day[:_MONTH] == month]
            # Where every whole day is the same, it is the day that the session ends in.
            found += of_month or [last] * (last[:_MONTH] == month)
        return tuple(found)


def _different(recorded: dict[str, str], present: dict[str, str]) -> tuple[str, ...]:
    periods = sorted({*recorded, *present})
    return tuple(period for period in periods if recorded.get(period) != present.get(period))


def require_same_candles(recorded: Fingerprints, present: Fingerprints) -> None:
    """Raise ``CandlesDiffer``, naming symbols and months, unless two fingerprints are equal."""
    different = differences(recorded, present)
    if different:
        listed = "; ".join(_describe(difference, present) for difference in different[:_SHOWN])
        more = f"; and of {len(different) - _SHOWN} more symbols" if len(different) > _SHOWN else ""
        raise CandlesDiffer(
            f"the candles are not those of the recording: {listed}{more}",
            symbols={difference.symbol: list(difference.months) for difference in different},
        )


def _describe(difference: Difference, present: Fingerprints) -> str:
    first, last = difference.months[0], difference.months[-1]
    span = first if first == last else f"{first} to {last}"
    missing = "" if difference.symbol in present else " (there are none)"
    return f"{difference.symbol} {span}{missing}"
