"""The identities of a perpetual account, checked from its fills and payments alone (section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.support.oracle import ZERO, rounded
from tests.support.perpetual_cases import Case, start_oracle
from tests.support.perpetual_oracle.margin import safety, sign, tier_table
from tests.support.perpetual_oracle.market import Due


@dataclass(frozen=True)
class Held:
    """An open position."""

    symbol: str
    quantity: Decimal
    cost: Decimal
    isolated_wallet: Decimal
    is_isolated: bool
    mark: Decimal
    unrealized_pnl: Decimal


@dataclass(frozen=True)
class Books:
    """An account at one time, with all that happened to it."""

    time: int
    fills: Sequence[Any]
    orders: Sequence[Any]
    payments: Sequence[Any]
    held: Sequence[Held]
    wallet: Decimal
    cross: Decimal
    insurance: Decimal
    insured: Sequence[Decimal]
    """Insurance paid at each liquidation; closing fills may have needed it too."""
    portfolio: Any


def assert_adds_up(case: Case, books: Books) -> None:
    """Assert the identities 1 to 5 and 7; call it in the context ``EXACT``."""
    start = Decimal(case.config.balance)
    closed = _total(fill.closed_pnl or ZERO for fill in books.fills)
    fees = _total(fill.fee for fill in books.fills)
    funding = _total(payment.amount for payment in books.payments)
    realized = closed - fees + funding + books.insurance
    unrealized = _total(held.unrealized_pnl for held in books.held)
    portfolio = books.portfolio
    # 1: the wallet is explained, and consists of the cross wallet and the isolated ones.
    assert books.wallet == books.cross + _total(held.isolated_wallet for held in books.held)
    assert books.wallet == start + realized
    assert books.insurance >= _total(books.insured) >= 0
    # 2: so is equity.
    assert portfolio.total_equity == books.wallet + unrealized
    assert portfolio.total_equity == start + portfolio.realized_pnl + portfolio.unrealized_pnl
    assert portfolio.realized_pnl == realized
    assert portfolio.unrealized_pnl == portfolio.position_value == unrealized
    # 3: what was sold less what was bought is what was closed, and what is open at its cost.
    sold = _total(fill.quote_amount for fill in books.fills if fill.side == "sell")
    bought = _total(fill.quote_amount for fill in books.fills if fill.side == "buy")
    open_cost = _total(sign(held.quantity) * held.cost for held in books.held)
    assert closed == sold - bought + open_cost
    # 4: nothing is left where nothing is held.
    assert {held.symbol: held.quantity for held in books.held} == _quantities(books.fills)
    assert all(held.cost > 0 for held in books.held)
    assert all(held.isolated_wallet == 0 or held.is_isolated for held in books.held)
    # 5
    assert portfolio.total_equity == (
        portfolio.available_cash + portfolio.locked_cash + portfolio.position_value
    )
    assert portfolio.total_equity >= 0
    assert portfolio.available_cash >= 0
    _assert_safe(case, books)
    _assert_reduce_only(books)


def _assert_safe(case: Case, books: Books) -> None:
    """Assert that each isolated position, and the cross account, has more than it needs (7)."""
    crossed = [held for held in books.held if not held.is_isolated]
    left = books.cross
    for held in books.held:
        tiers = tier_table(case.config.tiers_of(held.symbol))
        balance = held.isolated_wallet if held.is_isolated else ZERO
        safe = safety(held.quantity, held.cost, balance, held.mark, tiers)
        if held.is_isolated:
            assert safe > 0
        else:
            left += safe
    assert left > 0 if crossed else left >= 0


def _assert_reduce_only(books: Books) -> None:
    """Assert that no order that may only reduce opened anything (7)."""
    for fill in books.fills:
        if books.orders[fill.order_id - 1].reduce_only:
            assert fill.closed_quantity == fill.quantity
        assert (fill.closed_pnl is None) == (fill.closed_quantity == 0)


def assert_funding_is_explained(case: Case, books: Books) -> None:
    """Assert that each payment is that of its row on what was held then (6).

    Fills of candles at the time of a row come before it, with the legs of brackets that they filled
    at once; those of the agent's orders after. A liquidation then may have come before or after.
    """
    rows = start_oracle(case.with_default_rate()).exchange.market.due(_settings(case))
    paid = {(payment.time, payment.symbol): payment for payment in books.payments}
    assert len(paid) == len(books.payments)
    for row in rows:
        if row.time > books.time:
            continue
        payment = paid.pop((row.time, row.symbol), None)
        quantities = _held_at(row, books)
        if payment is None:
            assert ZERO in quantities
            continue
        assert payment.quantity in quantities
        assert payment.rate == row.rate
        assert row.mark in (None, payment.mark_price)
        size, direction = abs(payment.quantity), sign(payment.quantity)
        notional = rounded(size * payment.mark_price, 8)
        assert payment.amount == -direction * rounded(notional * row.rate, 8)
    assert not paid


def _settings(case: Case) -> Any:
    return start_oracle(case.with_default_rate()).config


def _held_at(row: Due, books: Books) -> set[Decimal]:
    """Return what may have been held when a row was due."""
    quantity = ZERO
    possible: set[Decimal] | None = None
    for fill in books.fills:
        if fill.symbol != row.symbol or fill.time > row.time:
            continue
        if fill.time == row.time:
            if fill.is_liquidation:
                possible = {quantity, ZERO}
            elif _placed_at(books.orders[fill.order_id - 1], books) == row.time:
                break
        quantity += fill.quantity if fill.side == "buy" else -fill.quantity
    return {quantity} if possible is None else possible | {quantity}


def _placed_at(order: Any, books: Books) -> int:
    """Return when the agent placed an order, or for a leg of a bracket, its entry."""
    if order.parent_id is not None:
        order = books.orders[order.parent_id - 1]
    placed: int = order.created_at
    return placed


def _quantities(fills: Iterable[Any]) -> dict[str, Decimal]:
    quantities: dict[str, Decimal] = {}
    for fill in fills:
        change = fill.quantity if fill.side == "buy" else -fill.quantity
        quantities[fill.symbol] = quantities.get(fill.symbol, ZERO) + change
    return {symbol: quantity for symbol, quantity in quantities.items() if quantity}


def _total(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, ZERO)
