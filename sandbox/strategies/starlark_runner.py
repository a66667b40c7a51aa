"""Running a program: candles are passed to Starlark in columns, orders come back one by one."""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from importlib.resources import files
from keyword import kwlist
from typing import Any

import msgspec
import starlark

from candlestep.sandbox.clock import format_time
from candlestep.sandbox.errors import (
    InsufficientBalance,
    InvalidParameter,
    SandboxError,
    abbreviate,
)
from candlestep.sandbox.exchange.orders import Fill, Order, Side
from candlestep.sandbox.indicators.bars import Bars, SessionRows
from candlestep.sandbox.indicators.indicators import (
    Indicator,
    Values,
    parse_indicators,
    value_names,
)
from candlestep.sandbox.market.candles import PRICES
from candlestep.sandbox.money import PRICE_PLACES, parse_positive
from candlestep.sandbox.strategies.broker import Broker
from candlestep.sandbox.strategies.card import LONGEST_AGO, SPOT_HAS_NO_SHORTS, Guard, Size
from candlestep.sandbox.strategies.json_input import convert, normalise_json
from candlestep.sandbox.strategies.program import NO_ON_CANDLE, Failure, Program, failure_of, parse
from candlestep.sandbox.strategies.progress import RunProgress
from candlestep.sandbox.strategies.rows import Chunk, ProgramRows

CHUNK = 1024
"""Number of candles passed to Starlark at once; between chunks it collects garbage."""
_DEEPEST_CALL = 200
_TIME = 2
"""The column of a chunk that holds the time."""

_SIZES = Size.__struct_fields__
_GUARDS = ("stop_loss", "take_profit", "trailing_stop")
_ORDER_TERMS = (
    *("type", "price", "trigger_price", "oco_group", "expires_at", "reduce_only"),
    *("time_in_force", "post_only", "trail_percent", "trail_amount", "activation_price"),
)
_ENTRY_TERMS = (*_SIZES, *_ORDER_TERMS, *_GUARDS)
_TERMS = {"buy": _ENTRY_TERMS, "short": _ENTRY_TERMS, "sell": ("quantity", *_ORDER_TERMS)}
_TRADE_FIELDS = ["side", "type", "quantity", "price"]
_ORDER_FIELDS = ["id", *_TRADE_FIELDS, "trigger_price", "oco_group"]
_FILL_FIELDS = ["id", "order_id", *_TRADE_FIELDS, "fee", "realized_pnl", "time"]
_STATE = {"symbol", "time", "previous", "position", "entry_price", "cash", "fills", "state"}
_FUNCTIONS = {"buy", "sell", "cancel", "orders", "equity", "history"}
_SHORT = "short"
"""A function of ctx that an indicator of a program on spot may hide, where nothing can be short."""
_KEYWORDS = {*kwlist, "load"}
"""The reserved words of Starlark: those of Python, and ``load``."""
_DRIVER = files("candlestep.sandbox.strategies").joinpath("starlark_driver.star").read_text("utf-8")


class ProgramFailed(SandboxError):
    """A program that could not be evaluated to its end; ``line`` and ``time`` say where."""

    code = "PROGRAM_FAILED"


class ProgramRun:
    """A program that is being run, and the functions that it may call.

    The program's time and memory are not bounded here: run it in a process that bounds its own.
    """

    def __init__(
        self,
        program: Program,
        all_bars: Sequence[Bars],
        all_rows: Sequence[SessionRows],
        broker: Broker,
        progress: RunProgress,
    ) -> None:
        """Evaluate the top level of ``program``, and its indicators over all bars.

        Raises ``ProgramFailed`` and ``Cancelled``.
        """
        self._broker = broker
        self._session = broker.session
        self._progress = progress
        self._options = starlark.EvalOptions(
            check_cancelled=progress.poll, max_callstack_size=_DEEPEST_CALL
        )
        self._globals = starlark.Globals.extended_by([starlark.LibraryExtension.StructType])
        self._failure: Exception | None = None
        self._chunk: Chunk | None = None
        self._fills_reported = 0
        self._symbols = [bars.symbol for bars in all_bars]
        self._strategy, indicators = self._evaluate_declarations(program)
        self._values = []
        for bars in all_bars:
            progress.poll_now()
            self._values.append(Values(bars, indicators))
        self._names = value_names(indicators)
        self._rows = ProgramRows(all_bars, all_rows, self._values, self._names)

    def run(self) -> None:
        """Call ``on_candle`` for every candle of the session, and step the session to its end.

        Raises ``ProgramFailed`` and ``Cancelled``.
        """
        # A local variable, because a module that is referenced by what it calls is never freed.
        module = self._driver()
        call = starlark.parse("driver", "run_chunk()", starlark.Dialect.extended())
        for start in range(0, len(self._rows), CHUNK):
            self._chunk = self._rows.chunk(start, start + CHUNK)
            self._progress.at(self._chunk.step[0])
            self._evaluate(module, call)
        session = self._session
        while session.status == "running":
            session.step(session.total_steps - session.step_number)

    def _evaluate_declarations(
        self, program: Program
    ) -> tuple[starlark.FrozenModule, dict[str, Indicator]]:
        """Evaluate the top level of ``program``; return its functions and its indicators."""
        module = starlark.Module()
        # Set first, so that a program that declares no indicators has an empty dictionary.
        module["indicators"] = {}
        self._evaluate(module, parse(program.source))
        try:
            indicators = parse_indicators(normalise_json(module["indicators"], "indicators"))
            for name in indicators:
                _check_name(name, is_margined=self._broker.is_margined)
        except (InvalidParameter, starlark.StarlarkError) as error:
            raise _failed(Failure(str(error))) from None
        if not _defines_on_candle(module):
            raise _failed(Failure(NO_ON_CANDLE))
        return module.freeze(), indicators

    def _driver(self) -> starlark.Module:
        module = starlark.Module()
        module["symbols"] = self._symbols
        for name in ("order", "cancel", "orders", "equity", "history", "account", "advance"):
            module.add_callable(f"_{name}", self._keeping_its_error(getattr(self, f"_{name}")))
        module.add_callable("_columns", self._columns)
        ast = starlark.parse("driver", _driver_source(self._names), starlark.Dialect.extended())
        strategy = self._strategy
        self._evaluate(module, ast, starlark.FileLoader(lambda name: strategy))
        starlark.eval(module, starlark.parse("driver", "refresh()"), self._globals)
        return module

    def _evaluate(
        self,
        module: starlark.Module,
        ast: starlark.AstModule,
        loader: starlark.FileLoader | None = None,
    ) -> None:
        try:
            starlark.eval_with(self._options, module, ast, self._globals, file_loader=loader)
        except starlark.StarlarkError as error:
            time = None
            if self._chunk is not None:
                at: Any = module["at"]
                time = self._chunk.columns[_TIME][at[0]]
            raise _failed(failure_of(error), self._failure, time) from None

    def _keeping_its_error(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function``, but keep the error it raises: Starlark passes on its text alone."""

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                self._failure = error
                raise

        return call

    @property
    def _current(self) -> Chunk:
        """The chunk that is being evaluated."""
        assert self._chunk is not None, "orders come from on_candle alone"
        return self._chunk

    # What follows is called from Starlark. ``row`` counts within the chunk.

    def _columns(self) -> list[str]:
        # As text, because every number that is passed by itself costs microseconds.
        return [msgspec.json.encode(column)[1:-1].decode() for column in self._current.columns]

    def _advance(self, row: int) -> int:
        """Bring the session to the candle at ``row``; return 1 if an order filled or closed."""
        session = self._session
        steps = self._current.step[row] - session.step_number
        if steps <= 0:
            return 0
        realized = session.account.realized_pnl
        step = session.step(steps)
        has_changed = step.orders_filled or step.orders_closed
        # Funding realizes PnL without an order.
        return 1 if has_changed or session.account.realized_pnl != realized else 0

    def _order(self, row: int, action: str, quantity: list[Any], terms: Any) -> Any:
        self._advance(row)
        symbol = self._symbol(row)
        terms = normalise_json(terms, action)
        if len(quantity) > 1 or (quantity and "quantity" in terms):
            raise InvalidParameter(action, "takes one quantity")
        if quantity:
            terms["quantity"] = normalise_json(quantity[0], "quantity")
        known = _TERMS[action]
        for name in terms:
            if name not in known:
                raise InvalidParameter(f"{action}.{name}", f"{action} takes {', '.join(known)}")
            if name in _SIZES and terms[name] is None:  # What Starlark passes on for NaN.
                raise InvalidParameter(f"{action}.{name}", "must be a finite number")
        order = self._place(symbol, action, terms)
        return None if order is None else order.id

    def _place(self, symbol: str, action: str, terms: dict[str, Any]) -> Order | None:
        if action == "sell":
            return self._sell(symbol, terms)
        if action == "short":
            if not self._broker.is_margined:
                raise InvalidParameter("short", SPOT_HAS_NO_SHORTS)
            return self._enter(symbol, "sell", action, terms)
        if self._broker.held(symbol) < 0 and not {*_SIZES, *_GUARDS} & set(terms):
            return self._close(symbol, "buy", terms)
        return self._enter(symbol, "buy", action, terms)

    def _enter(self, symbol: str, side: Side, action: str, terms: dict[str, Any]) -> Order | None:
        """Buy or sell short the amount of a size, and guard it."""
        size = convert({name: terms.pop(name) for name in _SIZES if name in terms}, Size, action)
        guards = {name: _guard(name, terms.pop(name, None)) for name in _GUARDS}
        trail = guards.pop("trailing_stop")
        if terms.get("type", "market") != "market":
            for name, guard in (*guards.items(), ("trailing_stop", trail)):
                if isinstance(guard, Guard):
                    raise InvalidParameter(
                        name,
                        f"is in percent from the fill of a {action} at the market; give a"
                        " stop_loss or take_profit of another order as a price",
                    )
            return self._broker.enter(symbol, side, size, **terms, **guards)
        if trail is not None and not isinstance(trail, Guard):
            raise InvalidParameter("trailing_stop", 'must be a distance such as {"percent": 2}')
        order = self._broker.enter(symbol, side, size, **terms)
        if order is not None:
            self._broker.guard(order, guards["stop_loss"], guards["take_profit"], trail)
        return order

    def _sell(self, symbol: str, terms: dict[str, Any]) -> Order | None:
        """Sell a quantity, or all of the position."""
        if "quantity" in terms:
            return self._broker.place(symbol, "sell", terms.pop("quantity"), **terms)
        if self._broker.held(symbol) > 0:
            return self._close(symbol, "sell", terms)
        self._broker.refuse(symbol, "sell", InsufficientBalance.code)
        return None

    def _close(self, symbol: str, side: Side, terms: dict[str, Any]) -> Order | None:
        """Close the position, at the market or by another order."""
        quantity = self._broker.held(symbol).copy_abs()
        return self._broker.place(symbol, side, quantity, **self._broker.reducing | terms)

    def _cancel(self, row: int, order_id: object) -> bool:
        self._advance(row)
        return self._broker.cancel(order_id) is not None

    def _orders(self, row: int) -> list[dict[str, Any]]:
        self._advance(row)
        symbol = self._symbol(row)
        return [
            _to_record(order, _ORDER_FIELDS)
            for order in self._session.open_orders()
            if order.symbol == symbol
        ]

    def _equity(self, row: int) -> float:
        self._advance(row)
        return float(self._session.portfolio().total_equity)

    def _history(self, row: int, name: object, count: object) -> list[float | None]:
        if name not in self._names:
            raise InvalidParameter(
                "history", f"{abbreviate(name)!r} is not one of {', '.join(self._names)}"
            )
        if not isinstance(count, int) or not 1 <= count <= LONGEST_AGO:
            raise InvalidParameter("history", f"count must be from 1 to {LONGEST_AGO}")
        stop = self._current.bar[row] + 1
        values = self._values[self._current.place[row]]
        column = values[str(name)][max(0, stop - count) : stop]
        return [value if math.isfinite(value) else None for value in column.tolist()]

    def _account(self) -> list[Any]:
        """Return whether it may change by itself, the cash, the positions, and the new fills.

        It may while orders are pending, and while there are positions on margin.
        """
        session, broker = self._session, self._broker
        prices = {
            held.symbol: float(held.avg_entry_price) for held in session.portfolio().positions
        }
        held = [(float(broker.held(symbol)), prices.get(symbol)) for symbol in self._symbols]
        fills = session.fills[self._fills_reported :]
        self._fills_reported += len(fills)
        filled = [
            (self._symbols.index(fill.symbol), _to_record(fill, _FILL_FIELDS)) for fill in fills
        ]
        cash = float(session.account.available_cash)
        may_change = session.pending_count > 0 or (broker.is_margined and broker.has_positions)
        return [may_change, cash, held, filled]

    def _symbol(self, row: int) -> str:
        return self._symbols[self._current.place[row]]


def _check_name(indicator: str, *, is_margined: bool) -> None:
    field = f"indicators.{indicator}"
    if indicator in _STATE | _FUNCTIONS or (indicator == _SHORT and is_margined):
        raise InvalidParameter(field, "ctx already has a field of that name")
    if indicator in _KEYWORDS:
        raise InvalidParameter(field, "is a reserved word; choose another name")


def _defines_on_candle(module: starlark.Module) -> bool:
    try:
        return module["on_candle"] is not None
    except starlark.StarlarkError:  # A function cannot be converted to a Python value.
        return True


def _driver_source(names: Sequence[str]) -> str:
    """Return the driver for rows and candles that have values of these ``names``."""
    variables = {name: name if name in PRICES else f"value_{k}" for k, name in enumerate(names)}
    outputs: dict[str, list[str]] = {}
    fields = ["time = time"]
    for name, variable in variables.items():
        indicator, _, output = name.partition(".")
        if output:
            outputs.setdefault(indicator, []).append(f"{output} = {variable}")
        else:
            fields.append(f"{name} = {variable}")
    fields += [f"{name} = struct({', '.join(values)})" for name, values in outputs.items()]
    is_hidden = any(name.partition(".")[0] == _SHORT for name in names)
    parts = {
        "COLUMNS_OF_ROW": ("place", "is_call", "time", *variables.values()),
        "FIELDS_OF_CANDLE": fields,
        "FUNCTIONS_OF_SHORTS": [] if is_hidden else ["short = short,"],
    }
    driver = _DRIVER
    for name, values in parts.items():
        driver = driver.replace(name, ", ".join(values))
    return driver


def _to_record(value: Order | Fill, names: Sequence[str]) -> dict[str, Any]:
    """Return the fields of an order or a fill for Starlark, amounts as floats."""
    fields = ((name, getattr(value, name)) for name in names)
    return {name: float(field) if isinstance(field, Decimal) else field for name, field in fields}


def _guard(name: str, value: object) -> Guard | Decimal | None:
    """Parse a guard of a program: a price, or ``{"percent": 2}``."""
    if isinstance(value, dict):
        return convert(value, Guard, name)
    return None if value is None else parse_positive(name, value, PRICE_PLACES)


def _failed(
    failure: Failure, original: Exception | None = None, time: int | None = None
) -> ProgramFailed:
    """Return the error of a program, with the message of the call that refused it, if any."""
    message = failure.message if original is None else str(original)
    where = "" if failure.line is None else f"line {failure.line}"
    if failure.column is not None:
        where += f", column {failure.column}"
    when = "" if time is None else f" (candle complete at {format_time(time)})"
    return ProgramFailed(
        f"{where}: {message}{when}" if where else f"{message}{when}",
        line=failure.line,
        column=failure.column,
        time=time,
    )
