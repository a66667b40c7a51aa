"""The money adds up: after every command and every instant, exactly (design section 5)."""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, localcontext

from hypothesis import given

from candlestep.sandbox import Session
from tests.support.case_strategies import cases
from tests.support.session_cases import Case, apply, one_candle_at_a_time, start_session

ZERO = Decimal(0)
CURRENCY = "USDT"


def assert_money_adds_up(session: Session, starting_balance: Decimal) -> None:
    assert_portfolio_adds_up(session, starting_balance)
    assert_fills_explain_holdings(session, starting_balance)
    assert_locks_are_those_of_open_orders(session)


def assert_portfolio_adds_up(session: Session, starting_balance: Decimal) -> None:
    portfolio = session.portfolio()
    assert portfolio.starting_balance == starting_balance
    assert portfolio.total_equity == (
        starting_balance + portfolio.realized_pnl + portfolio.unrealized_pnl
    )
    assert portfolio.total_equity == (
        portfolio.available_cash + portfolio.locked_cash + portfolio.position_value
    )
    assert portfolio.available_cash >= 0
    assert portfolio.locked_cash >= 0
    positions = session.positions()
    assert sum((p.market_value for p in positions), ZERO) == portfolio.position_value
    assert sum((p.unrealized_pnl for p in positions), ZERO) == portfolio.unrealized_pnl
    for position in positions:
        assert position.quantity > 0
        assert position.unrealized_pnl == position.market_value - position.cost_basis


def assert_fills_explain_holdings(session: Session, starting_balance: Decimal) -> None:
    """Assert that cash, quantities, cost and realized PnL follow from the fills alone."""
    cash = starting_balance
    realized = ZERO
    quantities: dict[str, Decimal] = {}
    for fill in session.fills:
        sign = 1 if fill.side == "buy" else -1
        cash -= sign * fill.quote_amount + fill.fee
        quantities[fill.symbol] = quantities.get(fill.symbol, ZERO) + sign * fill.quantity
        assert quantities[fill.symbol] >= 0
        assert cash >= 0
        assert (fill.realized_pnl is None) == (fill.side == "buy")
        realized += fill.realized_pnl or ZERO
    portfolio = session.portfolio()
    positions = session.positions()
    assert cash == portfolio.available_cash + portfolio.locked_cash
    assert realized == portfolio.realized_pnl
    assert {p.symbol: p.quantity for p in positions} == {s: q for s, q in quantities.items() if q}
    assert sum((p.cost_basis for p in positions), ZERO) == starting_balance + realized - cash


def assert_locks_are_those_of_open_orders(session: Session) -> None:
    """Assert that locks are those of open orders; one shared by a group or list counts once."""
    orders = session.open_orders()
    cash: dict[str | int, Decimal] = {}
    locks: dict[tuple[str, str | int], Decimal] = {}
    for order in orders:
        has_limit = order.type in ("limit", "stop_limit", "take_profit_limit")
        locks_quantity = has_limit or session.config.locking_stops
        assert (order.locked_cash > 0) == (order.side == "buy")
        assert (order.locked_quantity > 0) == (order.side == "sell" and locks_quantity)
        key = (order.symbol, order.group or -order.id)
        locks[key] = max(locks.get(key, ZERO), order.locked_quantity)
        of = order.list_id or -order.id
        cash[of] = max(cash.get(of, ZERO), order.locked_cash)
    assert sum(cash.values(), ZERO) == session.portfolio().locked_cash
    balances = {balance.asset: balance for balance in session.balances()}
    for position in session.positions():
        balance = balances.pop(position.symbol.removesuffix(CURRENCY))
        locked = sum((lock for (of, _), lock in locks.items() if of == position.symbol), ZERO)
        assert balance.locked == locked <= position.quantity
        assert balance.available == position.quantity - locked
    assert list(balances) == [CURRENCY]
    assert all(lock == 0 for (of, _), lock in locks.items() if of not in held_symbols(session))


def held_symbols(session: Session) -> set[str]:
    return {position.symbol for position in session.positions()}


@given(cases(richer=True))
def test_money_adds_up_after_every_command_and_every_candle(case: Case) -> None:
    case = one_candle_at_a_time(case)
    session = start_session(case)
    starting_balance = Decimal(case.config.balance)
    with localcontext(Context(prec=100, traps=[Inexact])):
        assert_money_adds_up(session, starting_balance)
        for command in case.commands:
            apply(session, command)
            assert_money_adds_up(session, starting_balance)
