"""Cases of perpetual sessions: a market with marks and funding, a configuration, and commands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from tests.support import oracle as spot
from tests.support.perpetual_oracle import values
from tests.support.perpetual_oracle.margin import tier_table
from tests.support.perpetual_oracle.oracle import Oracle
from tests.support.session_cases import (
    Cancel,
    End,
    Refusal,
    Series,
    Side,
    Slippage,
    Step,
    Trigger,
    with_decimals,
)
from tests.support.session_cases import Type as OrderType

Mode: TypeAlias = Literal["cross", "isolated"]

TierRow: TypeAlias = tuple[str, str, int]
"""Floor, maintenance margin rate, highest leverage."""
ONE_TIER: tuple[TierRow, ...] = (("0", "0.004", 125),)


@dataclass(frozen=True)
class Settlement:
    """A funding row; ``mark`` is its own mark price, where it has one."""

    time: int
    rate: float
    interval: int
    mark: float | None = None


@dataclass(frozen=True)
class Rates:
    """The funding rows of one symbol."""

    symbol: str
    rows: tuple[Settlement, ...]


@dataclass(frozen=True)
class Config:
    """The settings of a perpetual session; rates are fractions."""

    start: int
    end: int
    interval: int
    balance: str
    fee_rate: str = "0.0005"
    slippage: Slippage = "none"
    bps: str = "0"
    trigger: Trigger = "path"
    liquidate_at_end: bool = False
    leverage: int = 10
    margin_mode: Mode = "cross"
    funding: bool = True
    default_rate: str | None = None
    mark: Literal["auto", "last"] = "auto"
    liquidation_fee: str = "0.0125"
    liquidation_at: Literal["path", "bankruptcy"] = "path"
    tiers: tuple[tuple[str, tuple[TierRow, ...]], ...] = ()
    """By symbol; one without any has ``ONE_TIER``."""

    @property
    def total_steps(self) -> int:
        return (self.end - self.start) // self.interval

    def tiers_of(self, symbol: str) -> tuple[TierRow, ...]:
        return dict(self.tiers).get(symbol, ONE_TIER)


@dataclass(frozen=True)
class Place:
    symbol: str
    side: Side
    type: OrderType
    quantity: str | None
    price: str | None = None
    trigger_price: str | None = None
    reduce_only: bool | None = None
    oco_group: str | None = None
    expires_at: int | None = None
    time_in_force: str | None = None
    post_only: bool | None = None
    trail_percent: str | None = None
    trail_amount: str | None = None
    activation_price: str | None = None
    quote_amount: str | None = None
    stop_loss: str | None = None
    take_profit: str | None = None

    @property
    def instruction(self) -> dict[str, Any]:
        """The fields of an instruction that it sets."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Oco:
    """Two orders, of which one cancels the other."""

    first: Place
    second: Place


@dataclass(frozen=True)
class Replace:
    """A replacement of a pending order: the youngest, or the one in another ``place`` from there."""

    place: int = 0
    price: str | None = None
    trigger_price: str | None = None
    quantity: str | None = None

    def order_id(self, pending: Sequence[int]) -> int:
        """Return the id of the order, of those that are pending; any other if there is none."""
        return pending[-1 - self.place] if self.place < len(pending) else self.place + 1

    @property
    def changes(self) -> dict[str, str]:
        numbers = vars(self).items()
        return {name: value for name, value in numbers if name != "place" and value is not None}


@dataclass(frozen=True)
class SetLeverage:
    symbol: str
    leverage: int


@dataclass(frozen=True)
class SetMarginMode:
    symbol: str
    mode: Mode


@dataclass(frozen=True)
class Transfer:
    symbol: str
    amount: str


Command: TypeAlias = (
    Place | Oco | Replace | Cancel | Step | End | SetLeverage | SetMarginMode | Transfer
)


@dataclass(frozen=True)
class Case:
    market: tuple[Series, ...]
    config: Config
    commands: tuple[Command, ...] = ()
    marks: tuple[Series, ...] = ()
    funding: tuple[Rates, ...] = field(default=())

    @property
    def symbols(self) -> list[str]:
        return sorted({series.symbol for series in self.market})

    def with_default_rate(self) -> Case:
        """Return the case with a rate for rows that are missing, so that it may start."""
        rate = self.config.default_rate or "0.0003"
        return replace(self, config=replace(self.config, default_rate=rate))


def start_oracle(case: Case) -> Oracle:
    """Start the oracle's session; raises ``Refused`` if it may not start."""
    config = case.config
    return Oracle(
        _rows(case.market),
        values.Config(
            start=config.start,
            end=config.end,
            interval=config.interval,
            balance=Decimal(config.balance),
            tiers={symbol: tier_table(config.tiers_of(symbol)) for symbol in case.symbols},
            leverage=dict.fromkeys(case.symbols, config.leverage),
            margin_mode=config.margin_mode,
            fee_rate=Decimal(config.fee_rate),
            slippage=config.slippage,
            fixed_slippage=spot.EXACT.divide(Decimal(config.bps), Decimal(10_000)),
            trigger=config.trigger,
            liquidate_at_end=config.liquidate_at_end,
            pays_funding=config.funding,
            default_rate=_decimal(config.default_rate),
            mark=config.mark,
            liquidation_fee=Decimal(config.liquidation_fee),
            liquidation_at=config.liquidation_at,
        ),
        marks=_rows(case.marks),
        funding=[
            values.FundingRow(
                rates.symbol,
                row.time,
                spot.from_float(row.rate),
                row.interval,
                None if row.mark is None else spot.from_float(row.mark),
            )
            for rates in case.funding
            for row in rates.rows
        ],
    )


def _rows(market: Iterable[Series]) -> list[spot.Row]:
    return [
        (
            series.symbol,
            series.interval,
            bar.open_time,
            *(bar.open, bar.high, bar.low, bar.close),
            bar.volume if series.has_volume else None,
        )
        for series in market
        for bar in series.bars
    ]


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def ask_oracle(session: Oracle, command: Command) -> object:
    """Return the oracle's answer to a command, or its refusal."""
    try:
        match command:
            case Place():
                return session.place_order(**with_decimals(command.instruction))
            case Oco():
                pair = (with_decimals(one.instruction) for one in (command.first, command.second))
                return session.place_oco(*pair)
            case Replace():
                order_id = command.order_id([order.id for order in session.exchange.pending])
                return session.replace_order(order_id, **with_decimals(command.changes))
            case Cancel():
                return session.cancel_order(command.order_id)
            case Step():
                return session.step(command.steps)
            case SetLeverage():
                return session.set_leverage(command.symbol, command.leverage)
            case SetMarginMode():
                return session.set_margin_mode(command.symbol, command.mode)
            case Transfer():
                return session.transfer_margin(command.symbol, Decimal(command.amount))
            case End():
                return session.cancel()
    except spot.Refused as refused:
        return Refusal(refused.code)
