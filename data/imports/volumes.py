"""The volume column of a file: the one that counts the base currency.

Where two columns can be the volume, ``volume x price = quote volume`` tells which of them is in
the base currency.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_TOLERANCE = 0.001
_NAME = re.compile(
    r"(?:real_?)?(?:base_)?(?:volume|vol|v)(?:_?\(?(?P<currency>[a-z0-9]{2,10})\)?)?"
)
_QUOTE_NAMES = frozenset(
    [
        "quote_volume",
        "quote_asset_volume",
        "quotevolume",
        "volume_quote",
        "turnover",
        "amount",
        "volume_(currency)",
        "volume_currency",
        "q",
    ]
)
_TICK_NAMES = frozenset(("tickvol", "tick_volume", "tickvolume"))


class VolumeChoice(NamedTuple):
    """The column that is taken for the volume, and what contradicts it."""

    column: str
    contradictions: NDArray[np.intp]
    """The rows in which the two columns seem to be the other way round."""
    reason: str


def volume_columns(names: Sequence[str]) -> list[str]:
    """Return the columns, by their normalised names, that can be the volume."""
    return [name for name in names if _can_be_volume(name)]


def choose_volume(
    columns: Mapping[str, Floats], prices: tuple[Floats, Floats], base: str, quote: str
) -> VolumeChoice | None:
    """Choose the column that counts the base currency; ``prices`` are lows and highs.

    Returns None if every column counts the quote currency.
    """
    names = list(columns)
    ticks = [name for name in names if name in _TICK_NAMES]
    if ticks:
        # Terminals write zeros where a market has no volume but that of its ticks.
        names = [name for name in names if name in ticks or columns[name].any()]
    of_base = [name for name in names if _currency_of(name) == base.lower()]
    of_quote = [
        name for name in names if name in _QUOTE_NAMES or _currency_of(name) == quote.lower()
    ]
    others = [name for name in names if name not in of_quote and name not in ticks]
    best = (of_base or others or ticks or names)[0]
    rivals = [name for name in names if name != best and name not in ticks]
    none = np.array([], dtype=np.intp)
    if best in ticks:
        return VolumeChoice(best, none, "tick volume")
    if not rivals:
        return None if best in of_quote else VolumeChoice(best, none, "the only volume")
    rival = rivals[0]
    forward = _is_quote_of(columns[best], columns[rival], prices)
    backward = _is_quote_of(columns[rival], columns[best], prices)
    # At prices near 1, a row may be both.
    forward, backward = forward & ~backward, backward & ~forward
    if backward.sum() > forward.sum():
        return VolumeChoice(rival, np.flatnonzero(forward), f"{best} is {rival} x price")
    if forward.any():
        return VolumeChoice(best, np.flatnonzero(backward), f"{rival} is {best} x price")
    return None if best in of_quote else VolumeChoice(best, none, f"by its name, not {rival}")


def _is_quote_of(base: Floats, quote: Floats, prices: tuple[Floats, Floats]) -> NDArray[np.bool_]:
    """Tell in which rows one volume, at a price of the candle, makes the other."""
    low, high = prices
    is_traded = (base > 0) & (quote > 0)
    is_product = (quote >= base * low * (1 - _TOLERANCE)) & (
        quote <= base * high * (1 + _TOLERANCE)
    )
    result: NDArray[np.bool_] = is_traded & is_product
    return result


def _can_be_volume(name: str) -> bool:
    return name in _QUOTE_NAMES or name in _TICK_NAMES or _NAME.fullmatch(name) is not None


def _currency_of(name: str) -> str | None:
    parts = _NAME.fullmatch(name)
    return None if parts is None else parts["currency"]
