"""The quantity that an amount of cash buys: all that it pays for, and never more."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import (
    InvalidParameter,
    Market,
    Order,
    SandboxError,
    Session,
    SessionConfig,
    SymbolNotFound,
)
from tests.support.case_strategies import cases
from tests.support.runs import FEWER
from tests.support.session_cases import (
    Bar,
    Case,
    Place,
    Refusal,
    Series,
    Step,
    answer_of,
    market_of,
    start_session,
)

UNIT = Decimal("1e-8")
MINUTE = 60_000


def open_session(price: float, **options: object) -> Session:
    bars = tuple(Bar(k * MINUTE, price, price, price, price, 5.0) for k in range(3))
    market: Market = market_of((Series("AAAUSDT", MINUTE, bars),))
    config = SessionConfig(
        start_time=MINUTE,
        end_time=3 * MINUTE,
        starting_balance="1000",
        **options,  # type: ignore[arg-type]
    )
    return Session(config, market)


def test_without_costs_it_is_cash_over_price_rounded_down() -> None:
    free = open_session(3.0, fee_rate=0, slippage={"model": "none"})
    assert free.affordable(symbol="AAAUSDT", cash=10) == Decimal("3.33333333")
    assert free.affordable(symbol="AAAUSDT", cash=9) == 3
    assert free.affordable(symbol="AAAUSDT", cash="0.00000001") == 0
    limit = free.affordable(symbol="AAAUSDT", cash=10, type="limit", price=2)
    assert limit == 5


def test_fee_and_slippage_come_out_of_the_cash() -> None:
    # 1010.1 / (100 * 1.01 * 1.0001): ten units at 101, and a fee of 0.0001 of 1010.
    dear = open_session(100.0, fee_rate="0.0001", slippage={"model": "fixed_bps", "bps": 100})
    assert dear.affordable(symbol="AAAUSDT", cash="1010.101") == 10
    assert dear.affordable(symbol="AAAUSDT", cash="1010.10099999") == Decimal("9.99999999")


def test_what_cannot_be_read_is_refused_by_name() -> None:
    session = open_session(3.0)
    for cash in (0, -1, "nan", float("inf"), 10**17):
        with pytest.raises(InvalidParameter, match="cash"):
            session.affordable(symbol="AAAUSDT", cash=cash)
    with pytest.raises(SymbolNotFound):
        session.affordable(symbol="NONE", cash=1)
    with pytest.raises(InvalidParameter, match="price"):
        session.affordable(symbol="AAAUSDT", cash=1, type="limit")


@FEWER
@given(cases(), st.sampled_from(["1", "0.5", "0.001", "0.0000001"]))
def test_an_order_of_what_is_affordable_costs_all_of_the_cash_and_no_more(
    case: Case, share: str
) -> None:
    """All of it except roundings, where the slippage does not depend on the quantity."""
    session = start_session(case)
    for command in case.commands:
        if session.status != "running":
            return
        if isinstance(command, Step) and command.steps > 0:
            session.step(command.steps)
        if not isinstance(command, Place) or command.side != "buy":
            continue
        before = session.account.available_cash
        cash = (before * Decimal(share)).quantize(UNIT)
        prices: dict[str, Any] = {"type": command.type, "price": command.price}
        prices["trigger_price"] = command.trigger_price
        quantity = affordable(session, command.symbol, cash, prices)
        if not 0 < quantity < 10**16:
            continue
        answer = answer_of(partial(buy, session, command.symbol, quantity, prices))
        if isinstance(answer, Refusal):
            assert answer.code != "INSUFFICIENT_BALANCE"
            continue
        assert isinstance(answer, Order)
        left = cash - (before - session.account.available_cash)
        assert left >= 0
        if case.config.slippage != "volume":
            unit_price = answer.fill.price if answer.fill else answer.trigger
            assert left <= 4 * UNIT * (1 + 2 * unit_price)


def affordable(session: Session, symbol: str, cash: Decimal, prices: dict[str, Any]) -> Decimal:
    try:
        return session.affordable(symbol=symbol, cash=cash, **prices)
    except SandboxError:
        return Decimal(0)


def buy(session: Session, symbol: str, quantity: Decimal, prices: dict[str, Any]) -> Order:
    return session.place_order(symbol=symbol, side="buy", quantity=quantity, **prices)
