"""Which candles a session can read, and where two recordings were made on different ones."""

from collections.abc import Sequence
from typing import NamedTuple

from candlestep.sandbox import Market, SandboxError, SessionConfig

_SHOWN = 5

Fingerprints = dict[str, dict[str, str]]
"""Of each symbol, what ``Candles.fingerprint`` says."""


class CandlesDiffer(SandboxError):
    """The candles are not those that a recording was made on; ``details`` has where."""

    code = "CANDLES_DIFFER"


class Difference(NamedTuple):
    """Months of a symbol of which a recording was made on other candles than there are."""

    symbol: str
    months: tuple[str, ...]


def fingerprint(config: SessionConfig, market: Market) -> Fingerprints:
    """Of each symbol and month, a digest of the candles that a session can read to its end."""
    end = config.clock.time(config.clock.total_steps)
    return {symbol: market.candles_of(symbol).fingerprint(end) for symbol in market.symbols}


def differences(recorded: Fingerprints, found: Fingerprints) -> Sequence[Difference]:
    """Where the candles of two fingerprints differ, by symbol."""
    return [
        Difference(symbol, tuple(months))
        for symbol in sorted({*recorded, *found})
        if (
            months := [
                month
                for month in sorted({*recorded.get(symbol, {}), *found.get(symbol, {})})
                if recorded.get(symbol, {}).get(month) != found.get(symbol, {}).get(month)
            ]
        )
    ]


def require_same_candles(recorded: Fingerprints, found: Fingerprints) -> None:
    """Raise ``CandlesDiffer``, naming symbols and months, unless two fingerprints are equal."""
    different = differences(recorded, found)
    if different:
        said = "; ".join(_said(each, found) for each in different[:_SHOWN])
        more = f"; and of {len(different) - _SHOWN} more symbols" if len(different) > _SHOWN else ""
        raise CandlesDiffer(
            f"the candles are not those of the recording: {said}{more}",
            symbols={each.symbol: list(each.months) for each in different},
        )


def _said(difference: Difference, found: Fingerprints) -> str:
    first, last = difference.months[0], difference.months[-1]
    span = first if first == last else f"{first} to {last}"
    missing = "" if difference.symbol in found else " (there are none)"
    return f"{difference.symbol} {span}{missing}"
