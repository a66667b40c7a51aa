"""The guard of a margin account: where margin does not suffice, exactly, and when it may not next."""

from collections.abc import Iterator
from copy import copy
from decimal import Decimal

from candlestep.sandbox.exchange.account import Holding
from candlestep.sandbox.exchange.events import MARGIN, Event, EventQueue
from candlestep.sandbox.exchange.margin.account import MarginAccount
from candlestep.sandbox.exchange.margin.corridor import (
    CrossPosition,
    corridor_exit,
    first_candidate,
)
from candlestep.sandbox.exchange.margin.marks import StandingMarks
from candlestep.sandbox.exchange.margin.positions import (
    exact_pnl,
    excess,
    liquidation_price,
    maintenance_margin,
)
from candlestep.sandbox.money import MARKET, largest_float_up_to, smallest_float_from

CROSS = ""
"""The scope of all cross positions; that of an isolated one is its symbol."""


class MarginGuard:
    """The test that decides, and the search for the time at which to make it.

    A *scope* is an isolated position, or all cross positions together.
    """

    def __init__(self, account: MarginAccount, marks: StandingMarks, *, close_only: bool) -> None:
        """Guard ``account`` at ``marks``; with ``close_only`` at the closes of candles alone."""
        self.account = account
        self.marks = marks
        self.changed_at: dict[str, int] = {}
        """Time (ms) at which a command last opened, increased or flipped a position, or took margin."""
        self._close_only = close_only
        self.unarmed: dict[str, None] = {}
        """The scopes whose next event is not known, in the sequence in which they changed."""
        self._armed: dict[str, Event] = {}
        self._version = 0
        self._is_search = False

    def copy(self, account: MarginAccount, marks: StandingMarks) -> "MarginGuard":
        """Return an independent copy that guards the copies of account and marks."""
        copied = copy(self)
        copied.account, copied.marks = account, marks
        copied.changed_at = self.changed_at.copy()
        copied.unarmed, copied._armed = self.unarmed.copy(), self._armed.copy()
        return copied

    # The test

    def scope_of(self, symbol: str) -> str:
        """Return the scope of a symbol's position."""
        return symbol if self.account.terms[symbol].is_isolated else CROSS

    def members(self, scope: str) -> Iterator[Holding]:
        """Iterate over the open positions of a scope, by symbol."""
        account = self.account
        for symbol in [scope] if scope else sorted(account.open_holdings):
            if symbol in account.open_holdings and self.scope_of(symbol) == scope:
                yield account.open_holdings[symbol]

    def wallet_of(self, scope: str) -> Decimal:
        """Return the wallet that a scope may lose."""
        return self.account.isolated_wallet(scope) if scope else self.account.cross_wallet

    def is_safe(self, scope: str, now: int) -> bool:
        """Return whether a scope keeps more than its maintenance margin, in exact products."""
        left = self.wallet_of(scope)
        is_empty = True
        for holding in self.members(scope):
            is_empty = False
            left = MARKET.add(left, self._excess(holding, now))
        return is_empty or left > 0

    def balance(self, symbol: str, now: int) -> Decimal:
        """Return what a position may lose with the others standing at their marks."""
        scope = self.scope_of(symbol)
        left = self.wallet_of(scope)
        for holding in self.members(scope):
            if holding.symbol != symbol:
                left = MARKET.add(left, self._excess(holding, now))
        return left

    def balance_to_bankruptcy(self, symbol: str, now: int) -> Decimal:
        """Return what a position may lose until nothing is left, the others standing."""
        scope = self.scope_of(symbol)
        left = self.wallet_of(scope)
        for holding in self.members(scope):
            if holding.symbol != symbol:
                left = MARKET.add(left, exact_pnl(holding, self.marks.price(holding.symbol, now)))
        return left

    def liquidation_price(self, symbol: str, now: int) -> Decimal | None:
        """Return the liquidation price of a position with the others standing at their marks."""
        holding, tiers = self.account.holding(symbol), self.account.terms[symbol].tiers
        return liquidation_price(holding, tiers, self.balance(symbol, now))

    def largest(self, scope: str, now: int) -> Holding:
        """Return the position of a scope with the largest maintenance; of two, by symbol."""

        def needed(holding: Holding) -> Decimal:
            mark = self.marks.price(holding.symbol, now)
            return maintenance_margin(holding, mark, self.account.terms[holding.symbol].tiers)

        return max(self.members(scope), key=needed)

    def _excess(self, holding: Holding, now: int) -> Decimal:
        mark = self.marks.price(holding.symbol, now)
        return excess(holding, mark, self.account.terms[holding.symbol].tiers)

    # The search

    def disarm(self, symbol: str) -> None:
        """Forget when the position of ``symbol``, or the cross positions, may be liquidated."""
        self.unarmed[self.scope_of(symbol)] = None
        self.unarmed[CROSS] = None

    def disarm_at(self, time: int) -> None:
        """Forget the scopes whose time has come."""
        for scope, event in self._armed.items():
            if event.time <= time:
                self.unarmed[scope] = None

    def arm(self, events: EventQueue, now: int) -> None:
        """Add the next event of each scope whose event is not known."""
        for scope in self.unarmed:
            self._arm(scope, events, now)
        self.unarmed.clear()

    def continues_search(self, events: EventQueue, until: int) -> bool:
        """Take the first event if it is stale, or only leaves a corridor, and search on."""
        event = events.heap[0]
        if event.kind != MARGIN:
            return False
        if self._armed.get(event.symbol) != event:
            events.pop()
            return True
        if event.symbol != CROSS or not self._is_search:
            return False
        events.pop()
        if events.heap and events.heap[0].time == event.time:
            return False  # The whole instant is looked at exactly.
        following = events.heap[0].time if events.heap else until
        self._search(events, event.time, min(until, following))
        return True

    def _search(self, events: EventQueue, since: int, until: int) -> None:
        wallet, positions = float(self.account.cross_wallet), self._positions()
        found, last = first_candidate(wallet, positions, since, until, close_only=self._close_only)
        if found is None:
            self._leave_corridor(events, wallet, positions, last)
        else:
            self._add(events, CROSS, found, is_search=False)

    def _leave_corridor(
        self, events: EventQueue, wallet: float, positions: list[CrossPosition], now: int
    ) -> None:
        time = corridor_exit(wallet, positions, now, close_only=self._close_only)
        if time is not None:
            self._add(events, CROSS, time, is_search=True)

    def _positions(self) -> list[CrossPosition]:
        terms = self.account.terms
        return [
            CrossPosition.of(holding, terms[holding.symbol].tiers, self.marks.line(holding.symbol))
            for holding in self.members(CROSS)
        ]

    def _arm(self, scope: str, events: EventQueue, now: int) -> None:
        self._armed.pop(scope, None)
        members = list(self.members(scope))
        if len(members) > 1:
            wallet = float(self.account.cross_wallet)
            self._leave_corridor(events, wallet, self._positions(), now)
        elif members:
            time = self._first_touch(members[0], self.wallet_of(scope), now)
            if time is not None:
                self._add(events, scope, time, is_search=False)

    def _add(self, events: EventQueue, scope: str, time: int, *, is_search: bool) -> None:
        self._version += 1
        event = Event(time, MARGIN, symbol=scope, subject=self._version)
        self._armed[scope] = event
        if scope == CROSS:
            self._is_search = is_search
        events.add(event)

    def _first_touch(self, holding: Holding, wallet: Decimal, now: int) -> int | None:
        """Return when a candle is complete that may reach the liquidation price of a position.

        It is the only one of its scope, and may lose its ``wallet``.
        """
        symbol = holding.symbol
        tiers = self.account.terms[symbol].tiers
        threshold = liquidation_price(holding, tiers, wallet, is_safe=True)
        if threshold is None:
            return None
        below, above = float("-inf"), float("inf")
        if holding.quantity > 0:
            below = largest_float_up_to(threshold)
        else:
            above = smallest_float_from(threshold)
        line = self.marks.line(symbol)
        start = line.last_complete(now) + 1
        if start < len(line) and line.open_time[start] < self.changed_at.get(symbol, 0):
            if below >= line.closes[start] or above <= line.closes[start]:
                return line.complete_time_of(start)
            start += 1
        index = line.first_touch(below, above, start, len(line), close_only=self._close_only)
        return None if index >= len(line) else line.complete_time_of(index)
