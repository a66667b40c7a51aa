"""The ledger of a margin account: a cross wallet, isolated wallets, and signed positions.

Exactly and always, ``wallet = starting balance + closed PnL - fees + funding + insurance``, and a
symbol without a position has neither cost nor an isolated wallet.
"""

from collections.abc import Mapping
from copy import copy
from decimal import Decimal
from typing import Literal, NamedTuple

import msgspec

from candlestep.sandbox.exchange.account import Holding, Portfolio
from candlestep.sandbox.exchange.costs.costs import Cost
from candlestep.sandbox.exchange.margin.positions import Trade, trade_of
from candlestep.sandbox.exchange.margin.tiers import MarginTiers
from candlestep.sandbox.exchange.orders import Side
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    ZERO,
    add,
    ratio_from,
    rounded_product,
    rounded_ratio,
    rounded_share,
    subtract,
)

ChangeKind = Literal["leverage", "margin_mode", "transfer"]


class MarginTerms(msgspec.Struct, frozen=True):
    """The terms on which a symbol is traded."""

    leverage: Decimal
    is_isolated: bool
    tiers: MarginTiers

    def margin(self, exposure: Decimal) -> Decimal:
        """Return the initial margin of an exposure in quote currency, rounded up at 8 places."""
        return ratio_from(exposure, self.leverage, AMOUNT_PLACES)


class MarginChange(msgspec.Struct, frozen=True):
    """A command that changed the margin of a symbol: its leverage, its mode, or its wallet."""

    kind: ChangeKind
    symbol: str
    value: str
    """The leverage, the mode, or the amount to the isolated wallet, as text."""
    time: int
    orders: int
    """Number of orders placed before it."""


class Wallets(NamedTuple):
    """The balances of a margin account."""

    cross: Decimal
    isolated: Decimal
    """Sum of the isolated wallets."""


class MarginPortfolio(Portfolio, frozen=True):
    """A margin account at one instant; positions are valued at the mark price.

    Quantity, cost basis and value of a short are negative. ``position_value`` is the unrealized
    PnL, and ``locked_cash`` what positions and orders need by their cost, so that it does not move
    with marks.
    """

    wallet_balance: Decimal
    """Starting balance, closed PnL, funding and insurance less fees."""
    margin_balance: Decimal
    """Wallet balance and unrealized PnL; equal to ``total_equity``."""
    funding: Decimal
    """Funding received less funding paid."""


class MarginAccount:
    """Wallets and positions of one currency, exact to the last digit.

    Nothing here asks whether a trade is allowed; ``MarginClearing`` does.
    """

    def __init__(self, starting_balance: Decimal, terms: Mapping[str, MarginTerms]) -> None:
        """Open an account; ``terms`` by symbol hold until they are changed."""
        self.starting_balance = starting_balance
        self.available_cash = starting_balance
        """The wallet less what is locked, as of the last ``lock``; never negative."""
        self.locked_cash = ZERO
        """Need of positions and orders by their cost, at most the wallet, as of the last ``lock``."""
        self.cross_wallet = starting_balance
        self.terms = dict(terms)
        self.holdings: dict[str, Holding] = {}
        """Every symbol ever held, signed, in the order first traded."""
        self.open_holdings: dict[str, Holding] = {}
        self.held: tuple[Holding, ...] = ()
        """The open holdings, by symbol."""
        self.isolated_wallets: dict[str, Decimal] = {}
        """The wallets of the open positions in isolated mode."""
        self.realized_pnl = ZERO
        """Closed PnL, funding and insurance, less fees."""
        self.closed_pnl = ZERO
        self.fees = ZERO
        self.funding = ZERO
        self.insurance = ZERO
        self.funding_by_symbol: dict[str, Decimal] = {}
        self.changes: tuple[MarginChange, ...] = ()
        """All commands that changed terms and wallets; a tuple, which copies share."""
        self._isolated = ZERO
        self._locked_wallet = starting_balance
        """The wallet as of the last ``lock``."""
        self._needed: dict[str, Decimal] = {}
        self._needed_total = ZERO
        self._open_cost = ZERO
        """Minus the cost of what is open."""

    def copy(self) -> "MarginAccount":
        """Return an independent copy. Linear in the symbols."""
        copied = copy(self)
        for name in (
            "terms", "holdings", "open_holdings", "isolated_wallets", "funding_by_symbol", "_needed"
        ):  # fmt: skip
            setattr(copied, name, getattr(self, name).copy())
        return copied

    @property
    def wallet(self) -> Decimal:
        """The cross wallet and all isolated wallets."""
        return add(self.cross_wallet, self._isolated)

    def holding(self, symbol: str) -> Holding:
        """Return the position in ``symbol``, an empty one if there never was any."""
        return self.holdings.get(symbol) or Holding(symbol)

    def held_quantities(self) -> list[tuple[str, Decimal]]:
        """Return nothing: a position is a contract, and no asset is held."""
        return []

    def locked_quantity(self, symbol: str) -> Decimal:
        """Return 0: margin is locked, never a quantity."""
        return ZERO

    def isolated_wallet(self, symbol: str) -> Decimal:
        """Return the isolated wallet of ``symbol``; 0 in cross mode and without a position."""
        return self.isolated_wallets.get(symbol, ZERO)

    def has_cross_position(self) -> bool:
        """Return whether any position has the cross wallet as its margin."""
        return any(not self.terms[symbol].is_isolated for symbol in self.open_holdings)

    def trade(self, symbol: str, side: Side, quantity: Decimal, cost: Cost) -> Trade:
        """Book a fill: what it closes first, then what it opens.

        A part that is closed takes its share of the cost and of the isolated wallet. The PnL and
        the fee go to the cross wallet; opening in isolated mode moves margin out of it.
        """
        held = self.holding(symbol)
        trade = trade_of(held, side, quantity, cost.quote_amount)
        if trade.closed:
            self._release(symbol, trade.closed, held.quantity.copy_abs())
        opened_cost = trade.opened_quote if side == "buy" else trade.opened_quote.copy_negate()
        signed = quantity if side == "buy" else quantity.copy_negate()
        self.closed_pnl = add(self.closed_pnl, trade.closed_pnl)
        self.fees = add(self.fees, cost.fee)
        gained = subtract(trade.closed_pnl, cost.fee)
        cost_basis = subtract(opened_cost, trade.closed_cost)
        self._change(symbol, signed, cost_basis, gained)
        self.cross_wallet = add(self.cross_wallet, gained)
        terms = self.terms[symbol]
        if trade.opened and terms.is_isolated:
            margin = rounded_ratio(trade.opened_quote, terms.leverage, AMOUNT_PLACES)
            self.move_margin(symbol, margin)
        return trade

    def move_margin(self, symbol: str, amount: Decimal) -> None:
        """Move ``amount`` from the cross wallet to an isolated one; a negative one back."""
        self.cross_wallet = subtract(self.cross_wallet, amount)
        self._change_isolated(symbol, amount)

    def pay_funding(self, symbol: str, amount: Decimal) -> None:
        """Credit a funding payment to the wallet of the position; a negative one is paid."""
        self.funding = add(self.funding, amount)
        self.funding_by_symbol[symbol] = add(self.funding_by_symbol.get(symbol, ZERO), amount)
        self._change(symbol, ZERO, ZERO, amount)
        if self.terms[symbol].is_isolated:
            self._change_isolated(symbol, amount)
        else:
            self.cross_wallet = add(self.cross_wallet, amount)

    def insure(self, symbol: str, amount: Decimal) -> None:
        """Credit ``amount`` to the cross wallet: a debt that the insurance fund takes over."""
        self.insurance = add(self.insurance, amount)
        self.cross_wallet = add(self.cross_wallet, amount)
        self._change(symbol, ZERO, ZERO, amount)

    def lock(self, symbol: str, buys: Decimal, sells: Decimal) -> None:
        """Lock what ``symbol`` needs by cost, with pending entries worth ``buys`` and ``sells``.

        Call it after every change of the wallets, the position, its terms or its orders.
        """
        cost, terms = self.holding(symbol).cost_basis, self.terms[symbol]
        needed = exposed = exposure(cost, buys, sells)
        if terms.is_isolated:
            exposed = subtract(exposed, cost.copy_abs())
        needed = add(self.isolated_wallet(symbol), terms.margin(exposed))
        before = self._needed.get(symbol, ZERO)
        self._needed[symbol] = needed
        self._needed_total = add(self._needed_total, subtract(needed, before))
        self._locked_wallet = wallet = self.wallet
        self.locked_cash = min(wallet, self._needed_total)
        self.available_cash = subtract(wallet, self.locked_cash)

    def portfolio(self, marks: dict[str, Decimal]) -> MarginPortfolio:
        """Return the account at ``marks``, those of the symbols of ``held`` and no others."""
        held, wallet = self.held, self._locked_wallet
        # A loop of plain additions: a comprehension and a sum would be felt in every step.
        values = []
        pnl = self._open_cost
        for holding in held:
            value = rounded_product(holding.quantity, marks[holding.symbol])
            values.append(value)
            pnl = add(pnl, value)
        equity = add(wallet, pnl)
        return MarginPortfolio(
            self.starting_balance,
            self.available_cash,
            self.locked_cash,
            pnl,
            equity,
            pnl,
            self.realized_pnl,
            held,
            tuple(values),
            marks,
            wallet,
            equity,
            self.funding,
        )

    def _release(self, symbol: str, closed: Decimal, held: Decimal) -> None:
        """Move the share of an isolated wallet that a closed part frees to the cross wallet."""
        wallet = self.isolated_wallets.get(symbol)
        if wallet is not None:
            share = wallet if closed == held else rounded_share(wallet, closed, held)
            self.move_margin(symbol, share.copy_negate())

    def _change_isolated(self, symbol: str, amount: Decimal) -> None:
        self.isolated_wallets[symbol] = add(self.isolated_wallet(symbol), amount)
        self._isolated = add(self._isolated, amount)

    def _change(
        self, symbol: str, quantity: Decimal, cost_basis: Decimal, realized: Decimal
    ) -> None:
        """Add to a position, its cost and its realized PnL."""
        holding = self.holding(symbol).changed(quantity, cost_basis, realized)
        self._open_cost = subtract(self._open_cost, cost_basis)
        self.realized_pnl = add(self.realized_pnl, realized)
        self.holdings[symbol] = holding
        if holding.quantity:
            self.open_holdings[symbol] = holding
        else:
            self.open_holdings.pop(symbol, None)
            self.isolated_wallets.pop(symbol, None)
        self.held = tuple(self.open_holdings[symbol] for symbol in sorted(self.open_holdings))


def exposure(value: Decimal, buys: Decimal, sells: Decimal) -> Decimal:
    """Return the larger exposure of a position's signed value if all of one side's entries fill.

    ``max(|value + buys|, |value - sells|)``, as Binance counts the margin of a symbol.
    """
    return max(add(value, buys).copy_abs(), subtract(value, sells).copy_abs())
