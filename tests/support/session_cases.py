"""Cases of a session: a small market, a configuration and commands, and functions to run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from math import gcd
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np

from candlestep.sandbox import (
    Candles,
    Market,
    RiskProfile,
    SandboxError,
    Session,
    SessionConfig,
    format_time,
)
from candlestep.sandbox.performance.trading_record import KeptRecord

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY

INTERVALS = {
    MINUTE: "1m",
    3 * MINUTE: "3m",
    5 * MINUTE: "5m",
    15 * MINUTE: "15m",
    30 * MINUTE: "30m",
    HOUR: "1h",
    2 * HOUR: "2h",
    4 * HOUR: "4h",
    6 * HOUR: "6h",
    8 * HOUR: "8h",
    12 * HOUR: "12h",
    DAY: "1d",
    WEEK: "1w",
}

Side: TypeAlias = Literal["buy", "sell"]
Type: TypeAlias = Literal[
    "market",
    "limit",
    "stop_loss",
    "take_profit",
    "stop_limit",
    "take_profit_limit",
    "trailing_stop",
]
Slippage: TypeAlias = Literal["volume", "fixed_bps", "none"]
Trigger: TypeAlias = Literal["path", "close"]
FeeModel: TypeAlias = Literal["none", "fixed_bps", "tiered_maker_taker", "match_exchange"]


NUMBERS = {
    "quantity",
    "price",
    "trigger_price",
    "quote_amount",
    "trail_percent",
    "trail_amount",
    "activation_price",
    "stop_loss",
    "take_profit",
}
"""The fields of an instruction that are numbers."""


def with_decimals(instruction: Mapping[str, Any]) -> dict[str, Any]:
    """Return an instruction with decimals for its numbers."""
    return {
        name: Decimal(value) if name in NUMBERS else value for name, value in instruction.items()
    }


@dataclass(frozen=True)
class Bar:
    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True)
class Series:
    """The candles of one symbol in one granularity."""

    symbol: str
    interval: int
    bars: tuple[Bar, ...]
    has_volume: bool = True


@dataclass(frozen=True)
class FeePeriod:
    """An entry of a venue's fee schedule."""

    start: int
    stop: int | None
    maker: str
    taker: str
    symbols: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Fees:
    """The fee options of a session: a rate, or a model with its parameters."""

    fee_rate: str | None = None
    fee_model: FeeModel | None = None
    fee_bps: str | None = None
    fee_schedule: tuple[FeePeriod, ...] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of ``SessionConfig``; options that are None are left out."""
        settings = {name: value for name, value in vars(self).items() if value is not None}
        if self.fee_schedule is not None:
            settings["fee_schedule"] = [_fee_entry(period) for period in self.fee_schedule]
        return settings


def _fee_entry(period: FeePeriod) -> dict[str, Any]:
    entry: dict[str, Any] = {"maker": period.maker, "taker": period.taker}
    entry["from"] = format_time(period.start)
    if period.stop is not None:
        entry["until"] = format_time(period.stop)
    if period.symbols is not None:
        entry["symbols"] = list(period.symbols)
    return entry


@dataclass(frozen=True)
class Config:
    start: int
    end: int
    interval: int
    balance: str
    fees: Fees = Fees()
    slippage: Slippage = "volume"
    bps: str = "0"
    trigger: Trigger = "path"
    liquidate_at_end: bool = False
    locking_stops: bool = False
    max_order_size_pct: str | None = None
    max_position_size_pct: str | None = None
    daily_loss_limit_pct: str | None = None

    @property
    def total_steps(self) -> int:
        return (self.end - self.start) // self.interval


@dataclass(frozen=True)
class Place:
    symbol: str
    side: Side
    type: Type
    quantity: str | None
    price: str | None = None
    trigger_price: str | None = None
    client_order_id: str | None = None
    oco_group: str | None = None
    expires_at: int | None = None
    time_in_force: str | None = None
    post_only: bool | None = None
    quote_amount: str | None = None
    trail_percent: str | None = None
    trail_amount: str | None = None
    activation_price: str | None = None
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
    order_id: int
    price: str | None = None
    trigger_price: str | None = None
    quantity: str | None = None

    @property
    def changes(self) -> dict[str, str]:
        numbers = vars(self).items()
        return {name: value for name, value in numbers if name != "order_id" and value is not None}


@dataclass(frozen=True)
class Cancel:
    order_id: int


@dataclass(frozen=True)
class Step:
    steps: int


@dataclass(frozen=True)
class End:
    """The command that cancels the session."""


Command: TypeAlias = Place | Oco | Replace | Cancel | Step | End


@dataclass(frozen=True)
class Case:
    market: tuple[Series, ...]
    config: Config
    commands: tuple[Command, ...]

    @property
    def symbols(self) -> list[str]:
        return sorted({series.symbol for series in self.market})

    @property
    def finest(self) -> int:
        return min(series.interval for series in self.market)


@dataclass(frozen=True)
class Refusal:
    """The answer to a command that was refused."""

    code: str


def one_candle_at_a_time(case: Case) -> Case:
    """Return the case with single steps of the finest candles, or of what divides its own too."""
    config = case.config
    finest = gcd(case.finest, config.interval)
    steps = config.total_steps * config.interval // finest
    config = replace(config, interval=finest, end=config.start + steps * finest)
    commands: list[Command] = []
    left = steps
    for command in case.commands:
        if isinstance(command, Step):
            count = min(command.steps * case.config.interval // finest, left)
            commands += [Step(1)] * count
            left -= count
        else:
            commands.append(command)
    return replace(case, config=config, commands=tuple(commands))


def candles_of(series: Series) -> Candles:
    return Candles(
        symbol=series.symbol,
        interval=INTERVALS[series.interval],
        open_time=np.array([bar.open_time for bar in series.bars], dtype=np.int64),
        open=np.array([bar.open for bar in series.bars]),
        high=np.array([bar.high for bar in series.bars]),
        low=np.array([bar.low for bar in series.bars]),
        close=np.array([bar.close for bar in series.bars]),
        volume=np.array([bar.volume for bar in series.bars]) if series.has_volume else None,
    )


def market_of(market: tuple[Series, ...]) -> Market:
    return Market([candles_of(series) for series in market])


def session_config(config: Config) -> SessionConfig:
    slippage: dict[str, str] = {"model": config.slippage}
    if config.slippage == "fixed_bps":
        slippage["bps"] = config.bps
    return SessionConfig(
        start_time=config.start,
        end_time=config.end,
        starting_balance=config.balance,
        candle_interval=INTERVALS[config.interval],
        **config.fees.settings,
        slippage=slippage,
        trigger=config.trigger,
        liquidate_at_end=config.liquidate_at_end,
        locking_stops=config.locking_stops,
        allow_gaps=True,
        risk=RiskProfile(
            max_order_size_pct=_decimal(config.max_order_size_pct),
            max_position_size_pct=_decimal(config.max_position_size_pct),
            daily_loss_limit_pct=_decimal(config.daily_loss_limit_pct),
        ),
    )


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def start_session(case: Case) -> Session:
    return Session(session_config(case.config), market_of(case.market))


def apply(session: Session, command: Command) -> object:
    """Return the session's answer to a command, or its refusal."""
    match command:
        case Place():
            return answer_of(lambda: session.place_order(**command.instruction))
        case Oco():
            pair: Any = [command.first.instruction, command.second.instruction]
            return answer_of(lambda: session.place_oco(pair))
        case Replace():
            changes: dict[str, Any] = command.changes
            return answer_of(lambda: session.replace_order(command.order_id, **changes))
        case Cancel():
            return answer_of(lambda: session.cancel_order(command.order_id))
        case Step():
            return answer_of(lambda: session.step(command.steps))
        case End():
            return answer_of(session.cancel)


def answer_of(read: Callable[[], object]) -> object:
    """Return the answer to a command or a read, or its refusal."""
    try:
        return read()
    except SandboxError as error:
        return Refusal(error.code)


def serialised(value: object) -> str:
    """Return an answer as text, with every digit."""
    return msgspec.json.encode(value, enc_hook=_plain).decode()


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, KeptRecord):
        return None  # It shows what the results have been computed from, and is no part of them.
    raise NotImplementedError(type(value))
