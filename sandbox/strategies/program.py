"""A strategy as a program in Starlark, a dialect of Python that does no I/O and always ends.

    indicators = {
        "fast": {"kind": "sma", "period": 60},
        "bands": {"kind": "bollinger", "period": 20, "deviations": 2},
    }

    def on_candle(ctx):
        if ctx.position == 0 and ctx.close < ctx.bands.lower:
            ctx.buy(equity_share=0.95, stop_loss={"percent": 2})
        elif ctx.position > 0 and ctx.close > ctx.fast:
            ctx.sell()

``on_candle`` is called with every complete candle of the timeframe, symbol by symbol, once every
indicator has a value at this candle and at the one before. ``ctx`` has:

- ``symbol``, ``time`` (milliseconds, when the candle was complete), ``open``, ``high``, ``low``,
  ``close``, ``volume``, and each indicator by its name; ``previous`` has the same of the candle
  before;
- ``position`` (quantity held, negative for a short), ``entry_price`` (average, fees included on
  spot; None without a position), ``cash`` (available), and ``fills``, those of this symbol since the last call, each with ``id,
  order_id, side, type, quantity, price, fee, realized_pnl, time``: all as of the call;
- ``state``: a dict of this symbol that is kept between calls (globals are frozen);
- ``buy(quantity | quote= | equity_share=, type="market", price=, trigger_price=, oco_group=,
  expires_at=, reduce_only=, time_in_force=, post_only=, trail_percent=, trail_amount=,
  activation_price=, stop_loss=, take_profit=, trailing_stop=)``, the same of ``short``, which opens a short
  on perpetuals, and ``sell(quantity, …)``. Without a quantity ``sell`` sells all of a long, and
  ``buy`` buys back all of a short. The terms are those of ``Session.place_order`` and of a card's
  ``Size``; ``stop_loss`` and ``take_profit`` guard the quantity of a market entry, at a price or at
  ``{"percent": 2}`` from the fill, and ``trailing_stop={"percent": 2}`` from the best price since
  then; one cancels the others. An entry that waits takes both as prices, and is guarded from its
  fill on. All return the order's id, or None if it was refused;
- ``cancel(order_id)``: True if the order was still pending;
- ``orders()``: the pending orders of the symbol, oldest first, each with ``id, side, type,
  quantity, price, trigger_price, oco_group``; ``equity()``: total equity;
- ``history(name, count)``: the last values of a column or an indicator, oldest first, this
  candle's included; None where a value is not known yet.

The last four call the exchange, which costs microseconds; the rest costs next to nothing.
"""

import re

import msgspec
import starlark

from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.strategies.json_input import LONGEST_SOURCE

FILE_NAME = "strategy.star"
"""Name of a program in messages."""

NO_ON_CANDLE = "a program must define on_candle(ctx) at its top level"

_ON_CANDLE = re.compile(r"^(?:def[ ]+on_candle[ ]*\(|on_candle[ ]*=[^=])", re.MULTILINE)
_POSITION = re.compile(rf"^ *--> {re.escape(FILE_NAME)}:(\d+):(\d+)", re.MULTILINE)
_CALLED_FROM = re.compile(rf"^ +\* {re.escape(FILE_NAME)}:(\d+), in ", re.MULTILINE)
_MESSAGE = re.compile(r"^error: (.*?)(?:\n *--> |\Z)", re.MULTILINE | re.DOTALL)


class Program(msgspec.Struct, frozen=True):
    """A parsed program, not evaluated yet."""

    source: str


class Failure(msgspec.Struct, frozen=True):
    """An error in a program: its message, and line and column from 1, None where unknown."""

    message: str
    line: int | None = None
    column: int | None = None


def parse_program(source: str) -> Program:
    """Check the syntax of a program and that it defines ``on_candle``, without evaluating it.

    Raises ``InvalidParameter`` for ``source``, with ``line`` and ``column`` in its details.
    """
    if len(source) > LONGEST_SOURCE:
        raise InvalidParameter("source", f"is longer than {LONGEST_SOURCE} characters; shorten it")
    try:
        parse(source)
    except starlark.StarlarkError as error:
        raise _located(failure_of(error)) from None
    if not _ON_CANDLE.search(source):
        raise _located(Failure(NO_ON_CANDLE, 1, 1))
    return Program(source)


def _located(failure: Failure) -> InvalidParameter:
    line, column = failure.line, failure.column
    message = f"line {line}, column {column}: {failure.message}"
    return InvalidParameter("source", message, line=line, column=column)


def parse(source: str) -> starlark.AstModule:
    """Return the syntax tree of a program; raises ``starlark.StarlarkError``."""
    dialect = starlark.Dialect.standard()
    dialect.enable_lambda = True
    dialect.enable_f_strings = True
    dialect.enable_keyword_only_arguments = True
    dialect.enable_top_level_stmt = True
    dialect.enable_load = False
    return starlark.parse(FILE_NAME, source, dialect)


def failure_of(error: starlark.StarlarkError) -> Failure:
    """Parse Starlark's report: its message, and the innermost place in the program."""
    report = str(error)
    message = _MESSAGE.search(report)
    text = message[1].removeprefix("Parse error: ").strip() if message else report
    position = _POSITION.search(report)
    if position is not None:
        return Failure(text, int(position[1]), int(position[2]))
    lines = _CALLED_FROM.findall(report)
    return Failure(text, int(lines[-1]) if lines else None)
