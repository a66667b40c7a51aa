"""Perpetual sessions that run a case, and their answers to its commands."""

from __future__ import annotations

from collections.abc import Iterable
from math import nan
from typing import Any

from candlestep.sandbox import FundingRates, Market, Session, SessionConfig
from tests.support.perpetual_cases import (
    Case,
    Command,
    Config,
    Oco,
    Place,
    Replace,
    SetLeverage,
    SetMarginMode,
    Transfer,
)
from tests.support.session_cases import (
    INTERVALS,
    Cancel,
    End,
    Step,
    answer_of,
    candles_of,
)


def market_of(case: Case) -> Market:
    return Market(
        [candles_of(series) for series in case.market],
        marks=[candles_of(series) for series in case.marks],
        funding=[
            FundingRates(
                rates.symbol,
                [row.time for row in rates.rows],
                [row.rate for row in rates.rows],
                [row.interval for row in rates.rows],
                [nan if row.mark is None else row.mark for row in rates.rows],
            )
            for rates in case.funding
        ],
    )


def session_config(config: Config, symbols: Iterable[str]) -> SessionConfig:
    slippage: dict[str, str] = {"model": config.slippage}
    if config.slippage == "fixed_bps":
        slippage["bps"] = config.bps
    return SessionConfig(
        start_time=config.start,
        end_time=config.end,
        starting_balance=config.balance,
        candle_interval=INTERVALS[config.interval],
        fee_rate=config.fee_rate,
        slippage=slippage,
        trigger=config.trigger,
        liquidate_at_end=config.liquidate_at_end,
        allow_gaps=True,
        market_type="perp",
        leverage=config.leverage,
        margin_mode=config.margin_mode,
        funding=config.funding,
        funding_rate_default=config.default_rate,
        mark=config.mark,
        liquidation={"fee_rate": config.liquidation_fee, "at": config.liquidation_at},
        margin_tiers={
            symbol: [
                {"floor": floor, "mmr": mmr, "max_leverage": most}
                for floor, mmr, most in config.tiers_of(symbol)
            ]
            for symbol in symbols
        },
    )


def start_session(case: Case) -> Session:
    return Session(session_config(case.config, case.symbols), market_of(case))


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
            order_id = command.order_id([order.id for order in session.open_orders()])
            return answer_of(lambda: session.replace_order(order_id, **changes))
        case Cancel():
            return answer_of(lambda: session.cancel_order(command.order_id))
        case Step():
            return answer_of(lambda: session.step(command.steps))
        case SetLeverage():
            return answer_of(lambda: session.set_leverage(command.symbol, command.leverage))
        case SetMarginMode():
            return answer_of(lambda: session.set_margin_mode(command.symbol, command.mode))
        case Transfer():
            return answer_of(lambda: session.transfer_margin(command.symbol, command.amount))
        case End():
            return answer_of(session.cancel)
