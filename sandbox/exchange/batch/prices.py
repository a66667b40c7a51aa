"""Fill prices, slippage and fees of many trades at once, as whole numbers.

A fill price has up to 16 decimal places, which is too many for int64: it is kept modulo 2 ** 64
together with its nearest float, from which ``muldiv`` computes exact amounts.
"""

from decimal import Decimal
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.exchange.batch.exact import Floats, Integers, muldiv
from candlestep.sandbox.exchange.batch.tape import RecentVolumes
from candlestep.sandbox.exchange.costs.fee_schedule import FeePeriod
from candlestep.sandbox.exchange.costs.fees import DatedFees, Fees, TieredFees
from candlestep.sandbox.market.volumes import VOLUME_WINDOW
from candlestep.sandbox.money import EXACT, PRICE_PLACES

LARGEST = 2**62
POWERS = np.array([10**places for places in range(19)])
"""10 ** places, for arrays of places."""

PRICE_UNIT = 10**PRICE_PLACES
_LEAST_SLIPPAGE = 10**12
_MOST_SLIPPAGE = 10**15


class FillPrices(NamedTuple):
    """Prices in units of 1e-16, modulo 2 ** 64, and as the nearest floats or their neighbours."""

    units: Integers
    floats: Floats

    def at(self, places: NDArray[np.intp] | Integers) -> "FillPrices":
        """Return those at some places."""
        return FillPrices(self.units[places], self.floats[places])

    def amount(self, quantity: Integers) -> Integers:
        """Return ``round8(quantity * price)``."""
        return muldiv(quantity, self.units, PRICE_UNIT, self.floats)


class Rate(NamedTuple):
    """Fractions in units of 10 ** -``places``: one for all accounts or steps, or an array."""

    units: int | Integers
    places: int

    @property
    def scale(self) -> int:
        """The number of units in 1."""
        return int(10**self.places)

    def at(self, places: NDArray[np.intp]) -> int | Integers:
        """Return the units at some places of the array, or those of all."""
        return self.units if isinstance(self.units, int) else self.units[places]


def rate_of(fraction: Decimal) -> Rate:
    """Return a fraction in the largest units of which it is a whole number."""
    normal = EXACT.normalize(fraction)
    places = max(0, -int(normal.as_tuple().exponent))
    return Rate(int(normal.scaleb(places, EXACT)), places)


def slipped(
    base: Integers, scale: Integers | int, slippage: Integers | int, side: int
) -> FillPrices:
    """Return ``round16(base * (1 + side * slippage))``, half up.

    ``base`` is in units of 1 / ``scale``, a power of ten up to 1e16; ``slippage`` in units of 1e-16;
    ``side`` is 1 for buys and -1 for sells.
    """
    whole, rest = np.divmod(base, scale)
    units = base * (PRICE_UNIT // scale)
    units += side * whole * slippage
    units += muldiv(side * rest, slippage, scale)
    floats = base * (PRICE_UNIT / np.float64(1) / scale)
    floats += side * floats * (slippage / PRICE_UNIT)
    return FillPrices(units, floats)


def volume_slippage(quantity: Integers, stop: Integers, volumes: RecentVolumes) -> Integers:
    """Return the slippage of the volume model in units of 1e-16; see ``Costs.slippage``.

    ``stop`` is the candle before which the last 60 count.
    """
    total = volumes.totals[stop]
    factor = np.minimum(stop, VOLUME_WINDOW) * 10 ** (7 + volumes.digits)
    no_volume = total == 0
    divisor = np.where(no_volume, 1, total)
    estimate = quantity * factor.astype(np.float64) / divisor
    # Clamped in floats first, so that nothing overflows.
    capped = no_volume | (estimate > 2 * _MOST_SLIPPAGE)
    share = muldiv(np.where(capped, 0, quantity), factor, divisor)
    share = np.where(capped, _MOST_SLIPPAGE, np.clip(share, _LEAST_SLIPPAGE, _MOST_SLIPPAGE))
    return np.where(stop < volumes.first, _LEAST_SLIPPAGE, share)


def taker_rates(fees: Fees, symbol: str, times: Integers) -> Rate:
    """Return the taker's rate for ``symbol``: one, or that at each of ``times`` (ms, sorted).

    Raises ``InvalidParameter`` for tiers, which depend on what each account traded before.
    """
    if isinstance(fees, TieredFees):
        raise InvalidParameter(
            "fee_model",
            "tiered_maker_taker is not possible for many accounts at once; choose fee_rate,"
            " none, fixed_bps or match_exchange, or use single environments",
        )
    if not isinstance(fees, DatedFees):
        return rate_of(fees.flat)
    schedule = fees.schedule
    periods = [*schedule.general, *schedule.special.get(symbol, ())]
    places = max(rate_of(period.taker).places for period in periods)
    units = np.zeros(len(times), dtype=np.int64)
    for period in periods:
        units[_within(period, times)] = int(period.taker.scaleb(places, EXACT))
    return Rate(units, places)


def _within(period: FeePeriod, times: Integers) -> slice:
    return slice(*np.searchsorted(times, [period.start, period.stop]).tolist())
