"""Execution by vectorbt's simulator, whose columns share one account."""

from typing import Any

import numpy as np
import pandas as pd
from vectorbt import Portfolio
from vectorbt.portfolio import enums, nb

from candlestep.sandbox.engines.orders import EngineFill, EngineOrders, EngineResult

_BEFORE = ("pre_sim_func_nb", "pre_group_func_nb", "pre_segment_func_nb")
_AFTER = ("post_sim_func_nb", "post_group_func_nb", "post_segment_func_nb", "post_order_func_nb")
_NO_HOOKS = {
    **dict.fromkeys(_BEFORE, lambda context: ()),
    **dict.fromkeys(_AFTER, lambda context, *results: None),
}
"""Hooks that do nothing. vectorbt's own are compiled in every new process, which takes seconds."""


def execute(orders: EngineOrders) -> EngineResult:
    """Execute ``orders`` at the prices of their rows.

    The simulator runs uncompiled: compiling it for our function takes 20 seconds in every new
    process, as long as a hundred thousand rows.
    """
    terms = nb.order_nb.py_func(
        size_type=enums.SizeType.Amount,
        direction=enums.Direction.Both if orders.is_margined else enums.Direction.LongOnly,
        fees=orders.fee_rate,
        slippage=orders.slippage,
        allow_partial=False,
        raise_reject=True,
    )

    def order(context: Any) -> Any:
        row = context.i
        ordered = orders.next_order(row, context.last_cash[0], context.last_position)
        if ordered is None:
            return -1, enums.NoOrder
        column, quantity = ordered
        return column, terms._replace(size=quantity, price=float(orders.price[row, column]))

    portfolio = Portfolio.from_order_func(
        pd.DataFrame(orders.price, columns=orders.symbols),
        order,
        init_cash=orders.cash,
        group_by=True,
        cash_sharing=True,
        use_numba=False,
        flexible=True,
        # The position of each symbol may be closed and opened in each row.
        max_orders=2 * orders.price.size,
        **_NO_HOOKS,
    )
    records = portfolio.orders.values
    records = records[np.lexsort((records["col"], records["idx"]))]
    sign = np.where(records["side"] == enums.OrderSide.Buy, 1.0, -1.0)
    fields = (records["idx"], records["col"], sign * records["size"])
    columns = [field.tolist() for field in (*fields, records["price"], records["fees"])]
    return EngineResult(
        [EngineFill(*fields) for fields in zip(*columns, strict=True)], _equity(portfolio)
    )


def _equity(portfolio: Any) -> Any:
    return np.asarray(portfolio.value(), dtype=np.float64).reshape(-1)
