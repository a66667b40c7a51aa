"""Digests of the candles that a session can read, and where those of two recordings differ."""

from collections.abc import Sequence
from typing import NamedTuple

from candlestep.sandbox import Market, SandboxError, SessionConfig

_SHOWN = 5

Fingerprints = dict[str, dict[str, str]]
"""For each symbol, the digest of each month, as ``Candles.fingerprint`` returns it."""


class CandlesDiffer(SandboxError):
    """The candles differ from those of a recording; ``details`` has the symbols and months."""

    code = "CANDLES_DIFFER"


class Difference(NamedTuple):
    """The months in which the candles of a symbol differ from those of a recording."""

    symbol: str
    months: tuple[str, ...]


def fingerprint(config: SessionConfig, market: Market) -> Fingerprints:
    """Return a digest of the candles that a session can read, for each symbol and month."""
    end = config.clock.time(config.clock.total_steps)
    return {symbol: market.candles_of(symbol).fingerprint(end) for symbol in market.symbols}


def differences(recorded: Fingerprints, present: Fingerprints) -> Sequence[Difference]:
    """Return the months in which two fingerprints differ, by symbol."""
    return [
        Difference(symbol, tuple(months))
        for symbol in sorted({*recorded, *present})
        if (
            months := [
                month
                for month in sorted({*recorded.get(symbol, {}), *present.get(symbol, {})})
                if recorded.get(symbol, {}).get(month) != present.get(symbol, {}).get(month)
            ]
        )
    ]


def require_same_candles(recorded: Fingerprints, present: Fingerprints) -> None:
    """Raise ``CandlesDiffer``, naming symbols and months, unless two fingerprints are equal."""
    different = differences(recorded, present)
    if different:
        listed = "; ".join(_describe(months, present) for months in different[:_SHOWN])
        more = f"; and of {len(different) - _SHOWN} more symbols" if len(different) > _SHOWN else ""
        raise CandlesDiffer(
            f"the candles are not those of the recording: {listed}{more}",
            symbols={symbol: list(months) for symbol, months in different},
        )


def _describe(difference: Difference, present: Fingerprints) -> str:
    first, last = difference.months[0], difference.months[-1]
    span = first if first == last else f"{first} to {last}"
    missing = "" if difference.symbol in present else " (there are none)"
    return f"{difference.symbol} {span}{missing}"
