"""What can be read of a session, running or ended: the market and the account as of its clock."""

from abc import ABC, abstractmethod
from decimal import Decimal

from candlestep.sandbox.clock import interval_name
from candlestep.sandbox.config import SessionConfig
from candlestep.sandbox.exchange.account import Account, Balance, Portfolio, Position
from candlestep.sandbox.market.candles import Candle
from candlestep.sandbox.market.market import Market, Ticker
from candlestep.sandbox.money import subtract


class SessionReads(ABC):
    """Reads that follow from a market, a time and an account. None of them changes anything."""

    config: SessionConfig
    market: Market

    @property
    @abstractmethod
    def time(self) -> int:
        """The virtual clock, in milliseconds."""

    @property
    @abstractmethod
    def account(self) -> Account:
        """The ledger, not to be changed from outside."""

    @property
    def total_steps(self) -> int:
        """Steps from start to end."""
        return self.config.clock.total_steps

    def prices(self) -> dict[str, Decimal]:
        """The current price of each symbol that has one."""
        return self.market.prices(self.time)

    def price(self, symbol: str) -> Decimal:
        """The current price; raises ``SymbolNotFound`` or ``NoPrice``."""
        return self.market.price(symbol, self.time)

    def candles(
        self, symbol: str, interval: str | int | None = None, limit: int = 100
    ) -> list[Candle]:
        """The latest complete candles, oldest first; see ``Market.candles``.

        ``interval`` defaults to the session's, or to the data's if that is coarser.
        """
        if interval is None:
            interval = interval_name(self.default_interval(symbol))
        return self.market.candles(symbol, self.time, interval, limit)

    def default_interval(self, symbol: str) -> int:
        """The session's candle interval in milliseconds, or the data's so far if coarser."""
        finest = self.market.candles_of(symbol).finest_complete(self.time)
        return max(finest or 0, self.config.clock.interval)

    def ticker(self, symbol: str) -> Ticker:
        """The last 24 hours; see ``Market.ticker``."""
        return self.market.ticker(symbol, self.time)

    def portfolio(self) -> Portfolio:
        """The account at current prices."""
        return self.account.portfolio(self.prices())

    def positions(self) -> tuple[Position, ...]:
        """The open positions at current prices."""
        return self.portfolio().positions

    def balances(self) -> list[Balance]:
        """The account's currency, then the base asset of each open position."""
        account, currency = self.account, self.config.currency
        balances = [Balance(currency, account.available_cash, account.locked_cash)]
        for symbol, holding in sorted(account.open_holdings.items()):
            locked = account.locked_quantity(symbol)
            available = subtract(holding.quantity, locked)
            balances.append(Balance(symbol.removesuffix(currency) or symbol, available, locked))
        return balances
