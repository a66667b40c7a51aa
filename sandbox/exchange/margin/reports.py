"""Reports of a margin account: its positions in full, and its margin."""

from decimal import Decimal
from typing import Literal

import msgspec

from candlestep.sandbox.exchange.account import Holding, Portfolio, Position
from candlestep.sandbox.exchange.clearing import Clearing, MarginMode
from candlestep.sandbox.exchange.margin.clearing import MarginClearing
from candlestep.sandbox.exchange.margin.funding import FundingPayment
from candlestep.sandbox.exchange.margin.guard import CROSS
from candlestep.sandbox.exchange.margin.positions import (
    bankruptcy_price,
    maintenance_margin,
    unrealized_pnl,
)
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.market.marks import spanned
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    ZERO,
    add,
    rounded_product,
    rounded_ratio,
    rounded_up,
    subtract,
    total,
)

MarkSource = Literal["mark", "last", "mixed"]


class MarginPosition(Position, frozen=True):
    """An open position in a perpetual; ``quantity``, cost and value of a short are negative."""

    side: Literal["long", "short"]
    leverage: Decimal
    margin_mode: MarginMode
    mark_price: Decimal
    notional: Decimal
    """``|quantity| * mark_price`` at 8 places."""
    initial_margin: Decimal
    """Notional over leverage, rounded up at 8 places."""
    maintenance_margin: Decimal
    """Margin below which the position is liquidated, rounded up at 8 places."""
    isolated_wallet: Decimal
    margin_ratio: Decimal | None
    """Maintenance margin over margin balance, of all cross positions in cross mode, as a fraction at
    8 places; liquidated at 1. None if the balance is not positive."""
    liquidation_price: Decimal | None
    """Mark price at which the position is liquidated with the others where they stand, at 16
    places; None if there is none above 0."""
    bankruptcy_price: Decimal | None
    funding_paid: Decimal
    """Funding that the symbol paid less what it received, since the session's start."""
    max_notional: Decimal | None
    """Largest notional at the leverage; None without a bound."""

    @property
    def entry_price(self) -> Decimal:
        """Average entry price without fees, at 16 places."""
        return self.avg_entry_price


class MarginBalance(msgspec.Struct, frozen=True):
    """The margin of an account, in quote currency."""

    wallet_balance: Decimal
    cross_wallet: Decimal
    unrealized_pnl: Decimal
    margin_balance: Decimal
    """Wallet balance and unrealized PnL."""
    initial_margin: Decimal
    """Initial margin of all positions and pending entries."""
    maintenance_margin: Decimal
    available_balance: Decimal
    """For new positions; 0 if what is needed is more than there is."""
    margin_ratio: Decimal | None
    """The margin ratio of the cross positions; see ``MarginPosition``."""


class MarginFigures(msgspec.Struct, frozen=True):
    """The figures of a session on perpetuals; see ``Results``."""

    total_funding: Decimal
    total_liquidation_fees: Decimal
    liquidations: int
    insurance: Decimal
    max_leverage_used: Decimal
    mark_source: MarkSource
    mark_holes: int
    funding_expected: int
    funding_applied: int


def figures_of(clearing: Clearing, market: Market, start: int, now: int) -> MarginFigures | None:
    """Return the figures of a margin account from ``start`` to ``now`` (ms); None on spot."""
    if not isinstance(clearing, MarginClearing):
        return None
    held = clearing.history.holdings
    rows, with_marks = 0, 0
    for symbol in held:
        candles, marks = market.candles_of(symbol), market.marks_of(symbol)
        first, stop = candles.last_complete(start) + 1, candles.last_complete(now) + 1
        rows += stop - first
        if marks is not None and clearing.uses_marks:
            with_marks += int(spanned(candles, marks)[0][first:stop].sum())
    has_marks = clearing.uses_marks and any(market.marks_of(symbol) for symbol in held)
    source: MarkSource = "last" if not with_marks else "mark" if with_marks == rows else "mixed"
    account = clearing.account
    return MarginFigures(
        account.funding,
        total(liquidation.fee for liquidation in clearing.liquidations),
        len(clearing.liquidations),
        account.insurance,
        clearing.max_leverage_used,
        source,
        rows - with_marks if has_marks else 0,
        len(clearing.payments),
        sum(_has_rate(market, payment) for payment in clearing.payments),
    )


def _has_rate(market: Market, payment: FundingPayment) -> bool:
    """Return whether the market has the rate of a payment; else it was paid at the default."""
    rates = market.funding_of(payment.symbol)
    return rates is not None and rates.has_row_at(payment.time)


def positions_of(clearing: Clearing, portfolio: Portfolio, now: int) -> tuple[Position, ...]:
    """Return the open positions by symbol; those of a margin account in full, at the marks now."""
    if not isinstance(clearing, MarginClearing):
        return portfolio.positions
    holdings = clearing.account.open_holdings
    return tuple(_position(clearing, holdings[symbol], now) for symbol in sorted(holdings))


def margin_balance(clearing: MarginClearing, now: int) -> MarginBalance:
    """Return the margin of the account, at the marks now."""
    account, rules = clearing.account, clearing.rules
    unrealized = initial = maintenance = ZERO
    for symbol in dict.fromkeys([*account.open_holdings, *clearing.pending.entry_symbols()]):
        initial = add(initial, rules.initial_margin(account, symbol, now))
    for symbol, holding in account.open_holdings.items():
        terms = account.terms[symbol]
        if terms.is_isolated:
            notional = rules.notional(account, symbol, now).copy_abs()
            initial = add(initial, terms.margin(notional))
        unrealized = add(unrealized, unrealized_pnl(holding, clearing.marks.price(symbol, now)))
        maintenance = add(maintenance, _maintenance(clearing, holding, now))
    return MarginBalance(
        account.wallet,
        account.cross_wallet,
        unrealized,
        add(account.wallet, unrealized),
        initial,
        maintenance,
        max(rules.available(now), ZERO),
        _ratio(clearing, CROSS, now),
    )


def _position(clearing: MarginClearing, holding: Holding, now: int) -> MarginPosition:
    account, guard, symbol = clearing.account, clearing.guard, holding.symbol
    terms, mark = account.terms[symbol], clearing.marks.price(holding.symbol, now)
    value = rounded_product(holding.quantity, mark)
    return MarginPosition(
        symbol,
        holding.quantity,
        holding.cost_basis,
        mark,
        value,
        subtract(value, holding.cost_basis),
        holding.realized_pnl,
        "long" if holding.quantity > 0 else "short",
        terms.leverage,
        "isolated" if terms.is_isolated else "cross",
        mark,
        value.copy_abs(),
        terms.margin(value.copy_abs()),
        _maintenance(clearing, holding, now),
        account.isolated_wallet(symbol),
        _ratio(clearing, guard.scope_of(symbol), now),
        guard.liquidation_price(symbol, now),
        bankruptcy_price(holding, guard.balance_to_bankruptcy(symbol, now)),
        account.funding_by_symbol.get(symbol, ZERO).copy_negate(),
        terms.tiers.max_notional(terms.leverage),
    )


def _maintenance(clearing: MarginClearing, holding: Holding, now: int) -> Decimal:
    symbol = holding.symbol
    tiers = clearing.account.terms[symbol].tiers
    margin = maintenance_margin(holding, clearing.marks.price(symbol, now), tiers)
    return rounded_up(margin, AMOUNT_PLACES)


def _ratio(clearing: MarginClearing, scope: str, now: int) -> Decimal | None:
    """Return maintenance over margin balance of a scope."""
    needed, balance = ZERO, clearing.guard.wallet_of(scope)
    for holding in clearing.guard.members(scope):
        needed = add(needed, _maintenance(clearing, holding, now))
        mark = clearing.marks.price(holding.symbol, now)
        balance = add(balance, unrealized_pnl(holding, mark))
    return rounded_ratio(needed, balance, AMOUNT_PLACES) if balance > 0 else None
