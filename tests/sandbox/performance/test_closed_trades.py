"""Closed trades: every fill that reduces a position, with the entry that it closes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given

from candlestep.sandbox import ClosedTrade, Session, SessionConfig, closed_trades
from tests.support.case_strategies import cases
from tests.support.runs import FEWER
from tests.support.session_cases import Bar, Case, Series, apply, market_of, start_session

MINUTE = 60_000
UNIT = Decimal("1e-8")


def traded(prices: list[float], orders: dict[int, tuple[str, str]], fee: str) -> Session:
    """Return a session with a market order at some steps, filled at the price of that step."""
    bars = tuple(Bar(k * MINUTE, price, price, price, price, 1.0) for k, price in enumerate(prices))
    config = SessionConfig(
        start_time=MINUTE,
        end_time=len(prices) * MINUTE,
        starting_balance=10_000,
        fee_rate=fee,
        slippage={"model": "none"},
    )
    session = Session(config, market_of((Series("AAAUSDT", MINUTE, bars),)))
    while session.status == "running":
        if session.step_number in orders:
            side, quantity = orders[session.step_number]
            session.place_order(symbol="AAAUSDT", side=side, type="market", quantity=quantity)
        session.step()
    return session


def test_a_position_bought_twice_and_sold_in_two_parts() -> None:
    orders = {0: ("buy", "2"), 1: ("buy", "1"), 2: ("sell", "1"), 3: ("sell", "2")}
    session = traded([100, 130, 150, 90, 90, 90], orders, fee="0.01")
    # Bought 2 at 100 and 1 at 130: 330 and 3.30 of fees, so 110 each. A third of it is sold
    # at 150 with a fee of 1.50, the rest at 90 with one of 1.80.
    assert [figures(trade) for trade in closed_trades(session.fills)] == [
        ("AAAUSDT", "buy", 1, 1, 110, 3, 150, "37.4", "2.6", "33.66336634"),
        ("AAAUSDT", "buy", 2, 1, 110, 4, 90, "-44", "4", "-19.8019802"),
    ]


def test_a_position_opened_again_is_another_trade() -> None:
    orders = {0: ("buy", "1"), 1: ("sell", "1"), 3: ("buy", "1")}
    trades = closed_trades(traded([10, 20, 30, 40, 50], orders, fee="0").fills)
    assert [figures(trade) for trade in trades] == [
        ("AAAUSDT", "buy", 1, 1, 10, 2, 20, "10", "0", "100")
    ]
    again = {**orders, 4: ("sell", "1")}
    trades = closed_trades(traded([10, 20, 30, 40, 50, 60], again, fee="0").fills)
    assert [trade.entry_time // MINUTE for trade in trades] == [1, 4]


def figures(trade: ClosedTrade) -> tuple[Any, ...]:
    """Return the trade with its times in minutes and its amounts without trailing zeros."""
    amounts = [
        f"{amount.normalize():f}" for amount in (trade.pnl, trade.fee, trade.return_pct or UNIT)
    ]
    return (
        trade.symbol,
        trade.side,
        trade.quantity,
        trade.entry_time // MINUTE,
        trade.entry_price,
        trade.exit_time // MINUTE,
        trade.exit_price,
        *amounts,
    )


@FEWER
@given(cases())
def test_trades_add_up_to_the_account(case: Case) -> None:
    session = start_session(case)
    for command in case.commands:
        apply(session, command)
    fills = {fill.id: fill for fill in session.fills}
    trades = closed_trades(session.fills)
    sales = [fill for fill in fills.values() if fill.side == "sell"]
    assert [trade.fill_id for trade in trades] == [fill.id for fill in sales]
    assert sum((trade.pnl for trade in trades), Decimal(0)) == session.portfolio().realized_pnl
    for trade in trades:
        sale = fills[trade.fill_id]
        assert (trade.pnl, trade.quantity) == (sale.realized_pnl, sale.quantity)
        assert (trade.exit_time, trade.exit_price) == (sale.time, sale.price)
        # What is gained by the price, less all fees: to the rounding of the parts of a cost.
        gain = sale.quote_amount - trade.entry_price * trade.quantity
        assert abs(gain - trade.fee - trade.pnl) <= 2 * UNIT * (1 + len(trades))
        opening = max(
            (fill.time for fill in opening_fills(session, trade.symbol) if fill.id < trade.fill_id),
        )
        assert trade.entry_time == opening
    if not session.account.open_holdings:
        assert sum((t.fee for t in trades), Decimal(0)) == session.results().total_fees


def opening_fills(session: Session, symbol: str) -> list[Any]:
    """Return the buys of ``symbol`` at which nothing of it was held."""
    held = Decimal(0)
    buys = []
    for fill in session.fills:
        if fill.symbol != symbol:
            continue
        if not held:
            buys.append(fill)
        held += fill.quantity if fill.side == "buy" else -fill.quantity
    return buys
