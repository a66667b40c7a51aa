"""The accounts of a batch, and the rules by which weights become orders."""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.clock import Clock
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.exchange.batch.book import Book, Bracket
from candlestep.sandbox.exchange.batch.exact import Integers, muldiv
from candlestep.sandbox.exchange.batch.guards import MILLION, Indices
from candlestep.sandbox.exchange.batch.prices import PRICE_UNIT
from candlestep.sandbox.exchange.batch.tape import Tape
from candlestep.sandbox.exchange.costs.costs import Costs
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import AMOUNT_PLACES, EXACT

MOST_MONEY = 2**57
"""Bound of equity and cost bases, in units of 1e-8: 1.4 billion of the quote currency."""
MOST_COINS = 2**60
"""Bound of the quantity that equity could buy, in units of 1e-8: 11 billion coins."""
PRODUCT_BOUND = 2.0**112
"""Bound of money times coins."""


class OrderRules(NamedTuple):
    """When a weight becomes an order."""

    is_always: bool = False
    """Trade to the weight at every step, not only when another one is asked for."""
    min_trade: int = 0
    """Least order in millionths of equity; selling everything is exempt."""


class Batch:
    """N accounts that trade a market's symbols by weights, each at a time of its own.

    Amounts are whole numbers of 1e-8, in arrays with one element for each account; those of
    holdings have a row for each symbol. They equal those of a ``Session`` that does the same to the
    last digit. A call takes time linear in the accounts, a few hundred nanoseconds each.

    >>> batch = Batch(market, ["BTCUSDT"], 1024, clock=clock, starting_balance=balance, costs=costs)
    >>> batch.begin(np.arange(1024), steps)
    >>> batch.trade(np.full((1, 1024), 500_000))  # half of the equity, in millionths
    >>> batch.advance()
    """

    def __init__(
        self,
        market: Market,
        symbols: Sequence[str],
        n: int,
        *,
        clock: Clock,
        starting_balance: Decimal,
        costs: Costs,
        rules: OrderRules = OrderRules(),  # noqa: B008
        brackets: Sequence[Bracket] = (),
    ) -> None:
        """Prepare ``n`` accounts over the candles of ``symbols``; ``begin`` starts them.

        With ``brackets``, what is bought is guarded by the first of them, or as ``trade`` says.
        Raises ``InvalidParameter`` for candles, fees or balances that the arithmetic does not
        cover; see ``Tape`` and ``taker_rates``. Linear in the candles.
        """
        self.clock = clock
        self.rules = rules
        self.tapes = [Tape(market.candles_of(symbol), clock) for symbol in symbols]
        self._books = [Book(tape, market, costs, clock, n, brackets) for tape in self.tapes]
        self._starting_balance = balance_units(starting_balance)
        shape = (len(self.tapes), n)
        self.step = np.zeros(n, dtype=np.int64)
        """The step of the clock at which each account is."""
        self.starting_balance = np.full(n, self._starting_balance)
        self.cash = self.starting_balance.copy()
        self.realized = np.zeros(n, dtype=np.int64)
        self.equity = self.cash.copy()
        self.fees = np.zeros(n, dtype=np.int64)
        self.fills = np.zeros(n, dtype=np.int64)
        self.overflow = np.zeros(n, dtype=bool)
        """Accounts whose amounts have outgrown int64; they trade no more and keep their value."""
        self.quantity = np.zeros(shape, dtype=np.int64)
        self.cost_basis = np.zeros(shape, dtype=np.int64)
        self.value = np.zeros(shape, dtype=np.int64)
        self.weight = np.zeros(shape, dtype=np.int64)
        """The last weight that was asked for, in millionths; 0 after a stop or a target."""

    def __len__(self) -> int:
        return len(self.step)

    def begin(
        self,
        accounts: Indices,
        steps: Integers,
        *,
        balances: Integers | None = None,
        fee_rates: Integers | None = None,
        slippages: Integers | None = None,
    ) -> None:
        """Start some accounts anew at ``steps`` of the clock, with cash alone.

        ``balances`` in units of 1e-8, ``fee_rates`` and ``slippages`` in millionths replace those
        of the batch, if all its accounts are given them at their first start.
        """
        self.step[accounts] = steps
        self.starting_balance[accounts] = self._starting_balance if balances is None else balances
        self.cash[accounts] = self.equity[accounts] = self.starting_balance[accounts]
        for amounts in (self.realized, self.fees, self.fills):
            amounts[accounts] = 0
        self.overflow[accounts] = self.equity[accounts] >= MOST_MONEY
        for holdings in (self.quantity, self.cost_basis, self.value, self.weight):
            holdings[:, accounts] = 0
        for book in self._books:
            book.guards.clear(accounts)
            book.set_costs(accounts, fee_rates, slippages)

    def trade(
        self,
        weights: Integers,
        brackets: Integers | None = None,
    ) -> None:
        """Trade every account to ``weights`` at the prices of now, sells before buys.

        ``weights`` are millionths of equity, from 0 to 10 ** 6, in a row for each symbol; those of
        an account that add up to more are scaled down. ``brackets`` has in rows as well the number
        of the bracket that guards what is bought, by default 0, the first.
        """
        wanted = self._wanted(weights)
        self.weight[:] = weights
        if len(self.tapes) > 1:
            weights = _within_equity(weights)
        self._flag_overflow()
        if self.overflow.any():
            wanted &= ~self.overflow
        gaps = muldiv(self.equity, weights, MILLION) - self.value
        if self.rules.min_trade:
            least = _share_up(self.equity, self.rules.min_trade)
            wanted &= (np.abs(gaps) >= least) | (weights == 0)
        for symbol in range(len(self.tapes)):
            sellers = np.flatnonzero(wanted[symbol] & (gaps[symbol] < 0))
            if len(sellers):
                self._sell(symbol, sellers, -gaps[symbol, sellers], weights[symbol, sellers] == 0)
        for symbol in range(len(self.tapes)):
            buyers = np.flatnonzero(wanted[symbol] & (gaps[symbol] > 0))
            if len(buyers):
                bracket = None if brackets is None else brackets[symbol, buyers]
                self._buy(symbol, buyers, gaps[symbol, buyers], bracket)

    def advance(self) -> None:
        """Let one step pass: guards that its candles reach are filled, holdings are valued."""
        self.step += 1
        for symbol, book in enumerate(self._books):
            if book.brackets:
                self._trigger_guards(symbol)
        equity = self.cash
        for symbol, tape in enumerate(self.tapes):
            price = tape.price[np.minimum(self.step, len(tape.price) - 1)]
            quantity = self.quantity[symbol]
            bound = MOST_MONEY * 10**tape.digits
            if int(quantity.max()) * int(price.max()) >= bound:
                self.overflow |= quantity * price.astype(np.float64) >= bound
                price = np.where(self.overflow, 0, price)
            value = muldiv(quantity, price, 10**tape.digits)
            if self.overflow.any():
                value = np.where(self.overflow, self.value[symbol], value)
            self.value[symbol] = value
            equity = equity + value
        self.equity = equity

    def _wanted(self, weights: Integers) -> NDArray[np.bool_]:
        if self.rules.is_always:
            return np.ones(weights.shape, dtype=bool)
        wanted: NDArray[np.bool_] = weights != self.weight
        return wanted

    def _flag_overflow(self) -> None:
        """Flag the accounts whose next products might exceed the bounds of ``muldiv``."""
        largest = max(int(self.equity.max()), int(self.cost_basis.max()))
        most_cash = int(self.cash.max())
        for symbol, tape in enumerate(self.tapes):
            price, quantity = tape.price[self.step], self.quantity[symbol]
            most = most_cash * 10**tape.digits // int(price.min()) + int(quantity.max())
            if not _may_overflow(largest, most):
                continue
            # Some account may: look at each.
            money = np.maximum(self.equity, self.cost_basis.max(axis=0)).astype(np.float64)
            coins = self.cash * 10.0**tape.digits / price + quantity
            self.overflow |= (
                (money >= MOST_MONEY) | (coins >= MOST_COINS) | (money * coins >= PRODUCT_BOUND)
            )

    def _sell(
        self, symbol: int, accounts: Indices, gap: Integers, is_all: NDArray[np.bool_]
    ) -> None:
        """Sell ``gap`` in quote currency, or all that is held; nothing if it rounds to zero."""
        tape, book = self.tapes[symbol], self._books[symbol]
        steps = self.step[accounts]
        price, held = tape.price[steps], self.quantity[symbol, accounts]
        quantity = np.minimum(muldiv(gap, 10**tape.digits, price), held)
        quantity = np.where(is_all, held, quantity)
        fill = book.fill_at_once(quantity, accounts, steps, -1)
        amount = fill.amount(quantity)
        sold = np.flatnonzero(amount)
        if len(sold) < len(accounts):
            accounts, quantity, amount, steps = (
                column[sold] for column in (accounts, quantity, amount, steps)
            )
        self._book_sale(symbol, accounts, quantity, amount, book.fee(amount, accounts, steps))

    def _book_sale(
        self, symbol: int, accounts: Indices, quantity: Integers, amount: Integers, fee: Integers
    ) -> None:
        held, basis = self.quantity[symbol, accounts], self.cost_basis[symbol, accounts]
        is_closed = quantity == held
        taken = np.where(is_closed, basis, muldiv(basis, quantity, held))
        proceeds = amount - fee
        self.cash[accounts] += proceeds
        self.realized[accounts] += proceeds - taken
        self.cost_basis[symbol, accounts] = basis - taken
        self.quantity[symbol, accounts] = held - quantity
        self._count(accounts, fee)
        if self._books[symbol].brackets:
            self._books[symbol].guards.clear(accounts[is_closed])

    def _buy(
        self,
        symbol: int,
        accounts: Indices,
        gap: Integers,
        bracket: Integers | None,
    ) -> None:
        """Buy for ``gap`` in quote currency or the cash there is; nothing if it rounds to zero."""
        tape, book = self.tapes[symbol], self._books[symbol]
        steps = self.step[accounts]
        price = tape.price[steps]
        budget = np.minimum(self.cash[accounts], gap)
        quantity = muldiv(budget, 10**tape.digits, price)
        fill = book.fill_at_once(quantity, accounts, steps, 1)
        amount = fill.amount(quantity)
        fee = book.fee(amount, accounts, steps)
        dear = np.flatnonzero(amount + fee > budget)
        is_first = True
        while len(dear):
            cost = amount[dear] + fee[dear]
            if is_first:
                quantity[dear] = muldiv(budget[dear], quantity[dear], cost)
                is_first = False
            else:
                excess = muldiv(cost - budget[dear], 10**tape.digits, price[dear])
                quantity[dear] = np.maximum(quantity[dear] - excess - 1, 0)
            amount[dear] = fill.at(dear).amount(quantity[dear])
            fee[dear] = book.fee(amount[dear], accounts[dear], steps[dear])
            dear = dear[amount[dear] + fee[dear] > budget[dear]]
        if book.volumes is not None:
            fill = book.fill_at_once(quantity, accounts, steps, 1)
            amount = fill.amount(quantity)
            fee = book.fee(amount, accounts, steps)
        bought = np.flatnonzero(amount)
        if len(bought) < len(accounts):
            accounts, quantity, amount, fee = (
                column[bought] for column in (accounts, quantity, amount, fee)
            )
            fill = fill.at(bought)
            steps = steps[bought]
            bracket = None if bracket is None else bracket[bought]
        cost = amount + fee
        self.cash[accounts] -= cost
        held = self.quantity[symbol, accounts] + quantity
        self.quantity[symbol, accounts] = held
        self.cost_basis[symbol, accounts] += cost
        self._count(accounts, fee)
        if book.brackets and len(accounts):
            book.guards.place(accounts, held, book.triggers(fill, steps, bracket))

    def _trigger_guards(self, symbol: int) -> None:
        """Fill the first guard that the candles of the step reach; it sells the whole position."""
        tape, book = self.tapes[symbol], self._books[symbol]
        steps = np.minimum(self.step, len(tape.row))
        accounts = book.guards.reached(tape.step_low[steps], tape.step_high[steps])
        accounts = accounts[~self.overflow[accounts]]
        if not len(accounts):
            return
        rows = tape.row[self.step[accounts]]
        if tape.most_candles > 1:
            firsts = tape.row[self.step[accounts] - 1] + 1
            rows = book.guards.first_touches(accounts, firsts, rows, tape)
        base, places = book.guards.base_prices(accounts, rows, tape)
        quantity = self.quantity[symbol, accounts]
        fill = book.fill_at_trigger(quantity, accounts, base, places, rows)
        fits = np.flatnonzero(quantity * fill.floats < MOST_MONEY * float(PRICE_UNIT))
        if len(fits) < len(accounts):
            self.overflow[np.delete(accounts, fits)] = True
            accounts, quantity, rows = accounts[fits], quantity[fits], rows[fits]
            fill = fill.at(fits)
        amount = fill.amount(quantity)
        fee = book.fee_at_trigger(amount, accounts, rows)
        self._book_sale(symbol, accounts, quantity, amount, fee)
        self.weight[symbol, accounts] = 0

    def _count(self, accounts: Indices, fee: Integers) -> None:
        self.fees[accounts] += fee
        self.fills[accounts] += 1


def balance_units(balance: Decimal) -> int:
    """Return a starting balance in units of 1e-8; raises ``InvalidParameter`` above the bound."""
    units = int(EXACT.scaleb(balance, AMOUNT_PLACES))
    if units >= MOST_MONEY:
        raise InvalidParameter(
            "starting_balance",
            f"must be below {MOST_MONEY // 10**AMOUNT_PLACES:,} for many accounts at once",
        )
    return units


def _within_equity(weights: Integers) -> Integers:
    """Scale the weights of each account down, by whole millionths, if they add up to more than 1."""
    total = weights.sum(axis=0)
    return np.where(total > MILLION, weights * MILLION // np.maximum(total, 1), weights)


def _share_up(equity: Integers, millionths: int) -> Integers:
    """Return ``equity * millionths / 10 ** 6``, rounded up."""
    whole, rest = np.divmod(equity, MILLION)
    share: Integers = whole * millionths - (-rest * millionths // MILLION)
    return share


def _may_overflow(money: int, coins: int) -> bool:
    return money >= MOST_MONEY or coins >= MOST_COINS or money * coins >= PRODUCT_BOUND
