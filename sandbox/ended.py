"""A session that has ended, made again from its orders."""

from collections.abc import Sequence

from sandbox.account import Account
from sandbox.config import SessionConfig
from sandbox.costs import Cost
from sandbox.market import Market
from sandbox.orders import Fill, Order, order_by_id
from sandbox.reads import SessionReads


class EndedSession(SessionReads):
    """The final state of a session: an account is the sum of its fills, and nothing is pending."""

    def __init__(
        self,
        config: SessionConfig,
        market: Market,
        *,
        steps: int,
        orders: Sequence[Order],
    ) -> None:
        """The state after ``steps`` steps, given all ``orders`` by id, none of them pending."""
        self.config = config
        self.market = market
        self.step_number = steps
        self.orders = list(orders)
        fills = [order.fill for order in orders if order.fill is not None]
        self.fills: list[Fill] = sorted(fills, key=lambda fill: fill.id)
        self._account = Account(config.starting_balance)
        for fill in self.fills:
            cost = Cost(fill.quote_amount, fill.fee)
            if fill.side == "buy":
                self._account.buy(fill.symbol, fill.quantity, cost)
            else:
                self._account.sell(fill.symbol, fill.quantity, cost)

    @property
    def time(self) -> int:
        """The time at which the session ended, in milliseconds."""
        return self.config.clock.time(self.step_number)

    @property
    def account(self) -> Account:
        """The ledger, not to be changed from outside."""
        return self._account

    def order(self, order_id: int) -> Order:
        """The order with this id; raises ``OrderNotFound``."""
        return order_by_id(self.orders, order_id)

    def open_orders(self) -> list[Order]:
        """The pending orders: none."""
        return []
