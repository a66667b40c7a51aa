"""Inputs and answers of the oracle of perpetual futures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from functools import wraps
from typing import NamedTuple, ParamSpec, TypeVar

from tests.support.naive_path import stop_of
from tests.support.oracle import EXACT, PRICE_PLACES, ZERO, rounded

P = ParamSpec("P")
R = TypeVar("R")


class Tier(NamedTuple):
    """A maintenance tier, from the notional ``floor`` on."""

    floor: Decimal
    mmr: Decimal
    cum: Decimal
    max_leverage: int


class FundingRow(NamedTuple):
    """A settlement; ``mark`` is the row's own mark price, where it has one."""

    symbol: str
    time: int
    rate: Decimal
    interval: int
    mark: Decimal | None = None


@dataclass(frozen=True)
class Config:
    """The settings of a session; times in milliseconds, rates and ``bps`` as fractions."""

    start: int
    end: int
    interval: int
    balance: Decimal
    tiers: Mapping[str, tuple[Tier, ...]]
    leverage: Mapping[str, int] = field(default_factory=dict)
    margin_mode: str = "cross"
    fee_rate: Decimal = Decimal("0.001")
    slippage: str = "volume"
    fixed_slippage: Decimal = ZERO
    trigger: str = "path"
    liquidate_at_end: bool = False
    pays_funding: bool = True
    default_rate: Decimal | None = None
    mark: str = "auto"
    liquidation_fee: Decimal = Decimal("0.0125")
    liquidation_at: str = "path"


@dataclass(frozen=True, slots=True)
class Fill:
    """An execution; ``closed_pnl`` is None if it closed nothing."""

    id: int
    order_id: int
    symbol: str
    side: str
    type: str
    quantity: Decimal
    price: Decimal
    quote_amount: Decimal
    fee: Decimal
    slippage: Decimal
    closed_pnl: Decimal | None
    closed_quantity: Decimal
    is_liquidation: bool
    time: int

    @property
    def realized_pnl(self) -> Decimal | None:
        return None if self.closed_pnl is None else EXACT.subtract(self.closed_pnl, self.fee)


@dataclass(slots=True, eq=False)
class Order:
    """An order of the oracle, changed in place."""

    id: int
    symbol: str
    side: str
    type: str
    quantity: Decimal
    price: Decimal | None
    trigger_price: Decimal | None
    reduce_only: bool
    oco_group: str | None
    created_at: int
    expires_at: int | None
    status: str = "pending"
    reason: str | None = None
    filled_at: int | None = None
    closed_at: int | None = None
    fill: Fill | None = None
    time_in_force: str = "gtc"
    post_only: bool = False
    trail_percent: Decimal | None = None
    trail_amount: Decimal | None = None
    activation_price: Decimal | None = None
    quote_amount: Decimal | None = None
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    best_price: Decimal | None = None
    peak: Decimal | None = None
    """The best price of a trailing stop so far; ``best_price`` is that at its placement."""
    list_id: int | None = None
    parent_id: int | None = None
    triggered_at: int | None = None

    @property
    def is_limit(self) -> bool:
        return self.type == "limit" or self.triggered_at is not None

    @property
    def trigger(self) -> Decimal:
        """The price at which it becomes executable."""
        if self.type == "trailing_stop":
            best = self.best_price or self.activation_price
            assert best is not None
            return stop_of(self, best)
        trigger = self.price if self.is_limit else self.trigger_price
        assert trigger is not None
        return trigger

    @property
    def worst(self) -> Decimal:
        """The price at which it needs margin before slippage: its limit, if it has one."""
        return rounded(self.trigger, PRICE_PLACES) if self.price is None else self.price

    @property
    def waits_for_fall(self) -> bool:
        if self.is_limit:
            return self.side == "buy"
        return (self.side, self.type) in {
            ("sell", "stop_loss"),
            ("sell", "stop_limit"),
            ("sell", "trailing_stop"),
            ("buy", "take_profit"),
            ("buy", "take_profit_limit"),
        }

    @property
    def group(self) -> str | int | None:
        return self.oco_group if self.list_id is None else self.list_id

    @property
    def is_liquidation(self) -> bool:
        return self.reason == "liquidation" and self.fill is not None


class Payment(NamedTuple):
    """A funding payment: negative if the account paid."""

    symbol: str
    time: int
    rate: Decimal
    mark_price: Decimal
    quantity: Decimal
    notional: Decimal
    amount: Decimal


class Liquidation(NamedTuple):
    """A position that was closed by force."""

    order_id: int
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    closed_pnl: Decimal
    fee: Decimal
    insurance: Decimal
    margin_mode: str
    time: int


class Portfolio(NamedTuple):
    total_equity: Decimal
    available_cash: Decimal
    locked_cash: Decimal
    position_value: Decimal
    unrealized_pnl: Decimal
    realized_pnl: Decimal


@dataclass
class Events:
    """The events since the last step."""

    filled: list[Order] = field(default_factory=list)
    closed: list[Order] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    liquidations: list[Liquidation] = field(default_factory=list)


def exactly(method: Callable[P, R]) -> Callable[P, R]:
    """Run in a context that neither rounds silently nor depends on the caller's."""

    @wraps(method)
    def in_own_context(*args: P.args, **kwargs: P.kwargs) -> R:
        with localcontext(EXACT):
            return method(*args, **kwargs)

    return in_own_context
