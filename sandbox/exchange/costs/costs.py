"""The cost of a trade: fee and slippage."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal, NamedTuple, get_args

import msgspec

from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.exchange.costs.fees import Fees
from candlestep.sandbox.exchange.orders import Side
from candlestep.sandbox.market.candles import Candles, RecentVolume
from candlestep.sandbox.money import (
    ONE,
    PRICE_PLACES,
    ZERO,
    add,
    multiply,
    parse_share,
    rounded,
    rounded_product,
    rounded_ratio,
    subtract,
)

SlippageModel = Literal["volume", "fixed_bps", "none"]

_MODELS: tuple[str, ...] = get_args(SlippageModel)
_LEAST_SLIPPAGE = Decimal("0.0001")
_MOST_SLIPPAGE = Decimal("0.1")
_VOLUME_COEFFICIENT = Decimal("0.1")
"""The slippage, as a fraction, of trading as much as one candle's average volume."""
_HIGHEST_BPS = 5000


class Cost(NamedTuple):
    """``quantity * price`` and the fee on it, both in quote currency at 8 places."""

    quote_amount: Decimal
    fee: Decimal

    @property
    def to_buy(self) -> Decimal:
        """Cash that a buy pays."""
        return add(self.quote_amount, self.fee)

    @property
    def from_sale(self) -> Decimal:
        """Cash that a sell receives."""
        return subtract(self.quote_amount, self.fee)


class Costs(msgspec.Struct, frozen=True):
    """The fees and the slippage model of a session."""

    fees: Fees
    model: SlippageModel
    fixed: Decimal = ZERO
    """Slippage of the ``fixed_bps`` model, as a fraction."""

    @classmethod
    def parse(cls, fees: Fees, slippage: object) -> "Costs":
        """Combine ``fees`` with a parsed ``slippage`` such as ``{"model": "volume"}``.

        ``{"model": "fixed_bps", "bps": 5}`` makes every price worse by 5 hundredths of a percent.
        """
        if not isinstance(slippage, Mapping) or slippage.get("model") not in _MODELS:
            raise InvalidParameter(
                "slippage", f"must be an object whose model is one of {', '.join(_MODELS)}"
            )
        model = slippage["model"]
        parameters = {"model", "bps"} if model == "fixed_bps" else {"model"}
        if set(slippage) != parameters:
            raise InvalidParameter(
                "slippage", f"the model {model} takes exactly {', '.join(sorted(parameters))}"
            )
        if model != "fixed_bps":
            return cls(fees, model)
        bps = parse_share("slippage.bps", slippage["bps"], PRICE_PLACES // 2, _HIGHEST_BPS)
        return cls(fees, model, rounded(multiply(bps, Decimal("0.0001")), PRICE_PLACES))

    def slippage(self, quantity: Decimal, candles: Candles, stop: int, reference: int) -> Decimal:
        """Return the fraction by which trading ``quantity`` makes the price worse.

        The volume model is ``clamp(0.1 * quantity / average volume, 0.01 %, 10 %)``, the
        average being over the last 60 candles before index ``stop`` of the granularity of the
        candle ``reference``. A zero average gives the maximum; no such candle, or no volume of
        the symbol at all before ``stop``, gives the minimum.
        """
        if self.model != "volume":
            return self.fixed
        recent = candles.recent_volume(stop, candles.interval(reference))
        return _LEAST_SLIPPAGE if recent is None else _volume_slippage(quantity, recent)


def cost_at(quantity: Decimal, price: Decimal, fee_rate: Decimal) -> Cost:
    """Return the cost of trading ``quantity`` at ``price`` for a fee of ``fee_rate``, a fraction."""
    quote_amount = rounded_product(quantity, price)
    return Cost(quote_amount, rounded_product(quote_amount, fee_rate))


def slipped(price: Decimal, side: Side, slippage: Decimal) -> Decimal:
    """Return ``price`` made worse by the fraction ``slippage``, at 16 places."""
    factor = add(ONE, slippage) if side == "buy" else subtract(ONE, slippage)
    return rounded(multiply(price, factor), PRICE_PLACES)


def _volume_slippage(quantity: Decimal, recent: RecentVolume) -> Decimal:
    if not recent.total:
        return _MOST_SLIPPAGE
    # Multiplied by the candles, because the average is the total divided by them.
    scaled = multiply(multiply(quantity, Decimal(recent.candles)), _VOLUME_COEFFICIENT)
    share = rounded_ratio(scaled, recent.total, PRICE_PLACES)
    return min(max(share, _LEAST_SLIPPAGE), _MOST_SLIPPAGE)
