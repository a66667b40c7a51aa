"""Execution by backtrader's broker, which cheats on close: at the price of an order's row."""

from typing import Any

import backtrader as bt
import numpy as np

from candlestep.sandbox.clock import DAY
from candlestep.sandbox.engines.orders import EngineFill, EngineOrders, EngineResult

_EPOCH = 719_163
"""The day 1970-01-01 in backtrader's count of days."""
_LATER = 1000
"""Milliseconds from the end to the row at which the last orders are executed."""


def execute(orders: EngineOrders) -> EngineResult:
    """Execute ``orders`` at the prices of their rows."""
    cerebro = bt.Cerebro(stdstats=False, runonce=False, tradehistory=False)
    days = _EPOCH + np.append(orders.time, orders.time[-1] + _LATER) / DAY
    for column, symbol in enumerate(orders.symbols):
        prices = np.append(orders.price[:, column], orders.price[-1, column])
        cerebro.adddata(_Prices(days.tolist(), prices.tolist()), name=symbol)
    broker = cerebro.broker
    broker.set_cash(orders.cash)
    broker.set_coc(True)
    # Costs are checked when orders are made; the broker's own check leaves slippage out.
    broker.set_checksubmit(False)
    broker.setcommission(commission=orders.fee_rate)
    # Always the full slippage, even where it takes the price outside the next candle.
    broker.set_slippage_perc(orders.slippage, slip_open=True, slip_match=True, slip_out=True)
    cerebro.addstrategy(_PlannedOrders, orders=orders)
    (strategy,) = cerebro.run()
    return EngineResult(strategy.engine_fills, np.array(strategy.equity))


class _Prices(bt.feed.DataBase):  # type: ignore[misc]
    """A feed of prices, each at the time of its row of orders."""

    def __init__(self, days: list[float], prices: list[float]) -> None:
        super().__init__()
        self._rows = iter(zip(days, prices, strict=True))

    def _load(self) -> bool:
        row = next(self._rows, None)
        if row is None:
            return False
        lines = self.lines
        lines.datetime[0], price = row
        for line in (lines.open, lines.high, lines.low, lines.close):
            line[0] = price
        lines.volume[0] = lines.openinterest[0] = 0.0
        return True


class _PlannedOrders(bt.Strategy):  # type: ignore[misc]
    """A strategy that places the orders of each row.

    The broker executes the orders of one row when the next row comes, at the price of the former;
    so the feed has one row more than there are rows of orders.
    """

    params = (("orders", None),)

    def __init__(self) -> None:
        self.engine_fills: list[EngineFill] = []
        self.equity: list[float] = []
        self._row = -1

    def next(self) -> None:
        orders: EngineOrders = self.p.orders
        held = np.array([self.getposition(data).size for data in self.datas], dtype=np.float64)
        if self._row >= 0:
            self.equity.append(self.broker.getcash() + float(held @ orders.price[self._row]))
        self._row += 1
        if self._row < len(orders.time):
            self._order(orders, self.broker.getcash(), held)

    def notify_order(self, order: Any) -> None:
        if order.status == order.Completed:
            executed = order.executed
            numbers = map(float, (executed.size, executed.price, executed.comm))
            self.engine_fills.append(EngineFill(order.info.row, order.info.column, *numbers))
        elif order.status not in (order.Submitted, order.Accepted):
            raise RuntimeError(f"an order was {order.getstatusname().lower()}")

    def _order(self, orders: EngineOrders, cash: float, held: Any) -> None:
        """Place the orders of this row; the cash that one order leaves is available to the next."""
        row = self._row
        while (order := orders.next_order(row, cash, held)) is not None:
            column, quantity = order
            place = self.buy if quantity > 0 else self.sell
            place(data=self.datas[column], size=abs(quantity), row=row, column=column)
            price = orders.unit_price(row, column, 1 if quantity > 0 else -1)
            notional, fee = orders.cost(abs(quantity), price)
            cash = cash - notional - fee if quantity > 0 else cash + notional - fee
            held[column] += quantity
