"""Templates: named cards with parameters, their bounds and defaults.

Descriptions are of the direction long; the card of the other one is its mirror image.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.indicators.indicators import LONGEST_PERIOD
from candlestep.sandbox.money import MAXIMUM, decimal_of, format_decimal, parse_number
from candlestep.sandbox.strategies.card import DIRECTIONS, MOST_EVERY, MOST_LEVELS, Direction

Parameters = Mapping[str, Any]


class TemplateParameter(msgspec.Struct, frozen=True):
    """A number that a template takes; both bounds are included.

    It is required if it has no default and is not optional.
    """

    name: str
    description: str
    type: Literal["integer", "number"]
    least: int | float
    most: int | float
    default: int | float | None = None
    is_optional: bool = False
    """True if it may be null, which is then its default."""

    def schema(self) -> dict[str, Any]:
        """Return the parameter as a JSON schema."""
        types = [self.type, "null"] if self.is_optional else self.type
        schema: dict[str, Any] = {
            "type": types,
            "minimum": self.least,
            "maximum": self.most,
            "description": self.description,
        }
        if self.is_optional or self.default is not None:
            schema["default"] = self.default
        return schema

    @property
    def is_required(self) -> bool:
        """True if it must be given."""
        return self.default is None and not self.is_optional

    def parse(self, value: object) -> int | str | None:
        """Check a value and return it as a whole number, a decimal as text, or None."""
        field = f"parameters.{self.name}"
        if value is None:
            if self.is_required:
                raise InvalidParameter(field, f"is missing: {self.description}")
            if self.default is None:
                return None
            value = self.default
        number = parse_number(field, value)
        bounds = f"from {self.least} to {self.most}"
        if not decimal_of(self.least) <= number <= decimal_of(self.most):
            raise InvalidParameter(field, f"must be {bounds}, got {abbreviate(value)}")
        if self.type == "number":
            return format_decimal(number)
        if number != int(number):
            raise InvalidParameter(
                field, f"must be a whole number {bounds}, got {abbreviate(value)}"
            )
        return int(number)


class TemplateDirection(msgspec.Struct, frozen=True):
    """The parameter by which a template is long, short, or both; long by default.

    A template that is long is written without it.
    """

    choices: tuple[str, ...]
    name: str = "direction"
    description: str = "side of the positions; short is the mirror image of long, and needs perpetuals as both does"
    is_required: bool = False

    def schema(self) -> dict[str, Any]:
        """Return the parameter as a JSON schema."""
        return {
            "type": "string",
            "enum": list(self.choices),
            "description": self.description,
            "default": "long",
        }

    def parse(self, value: object) -> str:
        """Check a value; None stands for the default."""
        if value is None:
            return "long"
        if value not in self.choices:
            raise InvalidParameter(
                f"parameters.{self.name}",
                f"must be one of {', '.join(self.choices)}, got {abbreviate(value)}",
            )
        return str(value)


class Template(msgspec.Struct, frozen=True):
    """A named card with parameters."""

    id: str
    name: str
    description: str
    parameters: tuple[TemplateParameter | TemplateDirection, ...]
    card: Callable[[Parameters], dict[str, Any]]
    """Makes the card from the values of all parameters."""
    rules: tuple[tuple[str, str], ...] = ()
    """Pairs of parameters, the first of which must be less than the second."""
    is_of_one_symbol: bool = False
    """True if its parameters are prices, which fit one symbol only."""

    def schema(self) -> dict[str, Any]:
        """Return the parameters as a JSON schema."""
        return {
            "type": "object",
            "properties": {parameter.name: parameter.schema() for parameter in self.parameters},
            "required": [parameter.name for parameter in self.parameters if parameter.is_required],
            "additionalProperties": False,
        }


def expand(template_id: str, parameters: Parameters) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all parameters of a template, defaults filled in, and the card they make.

    Raises ``InvalidParameter`` naming ``template`` or ``parameters.…``.
    """
    template = TEMPLATES.get(template_id)
    if template is None:
        raise InvalidParameter(
            "template", f"{abbreviate(template_id)!r} is not one of {', '.join(TEMPLATES)}"
        )
    known = [parameter.name for parameter in template.parameters]
    for name in parameters:
        if name not in known:
            raise InvalidParameter(
                f"parameters.{abbreviate(name)}", f"{template_id} takes {', '.join(known)}"
            )
    values = {
        parameter.name: parameter.parse(parameters.get(parameter.name))
        for parameter in template.parameters
    }
    for lesser, greater in template.rules:
        if not Decimal(str(values[lesser])) < Decimal(str(values[greater])):
            raise InvalidParameter(
                f"parameters.{lesser}",
                f"must be less than {greater}, which is {values[greater]}",
            )
    card = template.card(values)
    # So that strategies that were written before there were shorts keep their ids.
    if values["direction"] == "long":
        del values["direction"]
    elif Decimal(values.get("take_profit_pct") or 0) >= 100:
        raise InvalidParameter(
            "parameters.take_profit_pct",
            "must be less than 100 for a short, because no price falls further; lower it",
        )
    return values, card


def _count(
    name: str, description: str, default: int, least: int = 2, most: int = LONGEST_PERIOD
) -> TemplateParameter:
    return TemplateParameter(name, description, "integer", least, most, default)


def _number(
    name: str, description: str, least: float, most: float, default: float | None = None
) -> TemplateParameter:
    return TemplateParameter(name, description, "number", least, most, default)


_SHARE = _number(
    "equity_share", "fraction of equity to buy with, fees included", 0.0001, 1, default=0.95
)


def _guard(name: str, description: str, most: float) -> TemplateParameter:
    return TemplateParameter(name, description, "number", 0.01, most, is_optional=True)


def _lengths(fast: int, slow: int, least: int = 1) -> tuple[TemplateParameter, ...]:
    return (
        _count("fast", "candles of the fast average", fast, least),
        _count("slow", "candles of the slow average", slow),
    )


_GUARDS = (
    _guard(
        "stop_loss_pct",
        "sell when the price has fallen so many percent below the entry's; null: never",
        99,
    ),
    _guard(
        "take_profit_pct",
        "sell when the price has risen so many percent above the entry's; null: never",
        10_000,
    ),
)
_SIDE = TemplateDirection(DIRECTIONS)
_DIRECTION = TemplateDirection((*DIRECTIONS, "both"))
_COMMON = (_SHARE, *_GUARDS, _DIRECTION)


def _entry(values: Parameters, side: Direction, when: dict[str, Any]) -> dict[str, Any]:
    """Return an entry with the size and the guards in ``values``."""
    size = {"equity_share": values["equity_share"]}
    entry: dict[str, Any] = {"when": when, "size": size, "side": side}
    for name in ("stop_loss", "take_profit"):
        if values[f"{name}_pct"] is not None:
            entry[name] = {"percent": values[f"{name}_pct"]}
    return entry


def _rules(
    values: Parameters, indicators: dict[str, Any], long: Sequence[Any], short: Sequence[Any]
) -> dict[str, Any]:
    """Return a card with the entry and the exit of each side that ``values`` have."""
    sides: dict[Direction, Sequence[Any]] = {"long": long, "short": short}
    if values["direction"] != "both":
        sides = {values["direction"]: sides[values["direction"]]}
    rules = [(side, *conditions) for side, conditions in sides.items()]
    exits = [{"when": exit, "side": side if len(rules) > 1 else None} for side, _, exit in rules]
    return {
        "indicators": indicators,
        "entries": [_entry(values, side, entry) for side, entry, _ in rules],
        "exits": exits,
    }


def _mirrored(values: Parameters, indicators: dict[str, Any], up: Any, down: Any) -> dict[str, Any]:
    """Return a card that is long from ``up`` to ``down``, and short from ``down`` to ``up``."""
    return _rules(values, indicators, (up, down), (down, up))


def _compare(left: Any, op: str, right: Any) -> dict[str, Any]:
    return {"left": left, "op": op, "right": right}


def _buy_and_hold(values: Parameters) -> dict[str, Any]:
    size = {"equity_share": values["equity_share"]}
    return {"entries": [{"every": 1, "size": size, "side": values["direction"]}]}


def _average_cross(kind: str) -> Callable[[Parameters], dict[str, Any]]:
    def card(values: Parameters) -> dict[str, Any]:
        return _mirrored(
            values,
            {name: {"kind": kind, "period": values[name]} for name in ("fast", "slow")},
            _compare("fast", "crosses_above", "slow"),
            _compare("fast", "crosses_below", "slow"),
        )

    return card


def _rsi(values: Parameters) -> dict[str, Any]:
    return _rules(
        values,
        {"rsi": {"kind": "rsi", "period": values["period"]}},
        (
            _compare("rsi", "crosses_above", float(values["oversold"])),
            _compare("rsi", ">", float(values["overbought"])),
        ),
        (
            _compare("rsi", "crosses_below", float(values["overbought"])),
            _compare("rsi", "<", float(values["oversold"])),
        ),
    )


def _bollinger(values: Parameters) -> dict[str, Any]:
    deviations = float(values["deviations"])
    return _rules(
        values,
        {"bands": {"kind": "bollinger", "period": values["period"], "deviations": deviations}},
        (
            _compare("close", "crosses_below", "bands.lower"),
            _compare("close", ">=", "bands.middle"),
        ),
        (
            _compare("close", "crosses_above", "bands.upper"),
            _compare("close", "<=", "bands.middle"),
        ),
    )


def _breakout(values: Parameters) -> dict[str, Any]:
    return _rules(
        values,
        {
            "above": {"kind": "donchian", "period": values["lookback"]},
            "below": {"kind": "donchian", "period": values["exit_lookback"]},
        },
        (
            _compare("close", ">", {"of": "above.upper", "ago": 1}),
            _compare("close", "<", {"of": "below.lower", "ago": 1}),
        ),
        (
            _compare("close", "<", {"of": "above.lower", "ago": 1}),
            _compare("close", ">", {"of": "below.upper", "ago": 1}),
        ),
    )


def _macd(values: Parameters) -> dict[str, Any]:
    lengths = {name: values[name] for name in ("fast", "slow", "signal")}
    return _mirrored(
        values,
        {"macd": {"kind": "macd", **lengths}},
        _compare("macd.macd", "crosses_above", "macd.signal"),
        _compare("macd.macd", "crosses_below", "macd.signal"),
    )


def _dca(values: Parameters) -> dict[str, Any]:
    size = {"quote": values["quote_amount"]}
    side = values["direction"]
    return {"entries": [{"every": values["every"], "add": True, "size": size, "side": side}]}


def _grid(values: Parameters) -> dict[str, Any]:
    return {
        "grid": {
            "lower": values["lower_price"],
            "upper": values["upper_price"],
            "levels": values["grid_levels"],
            "size": {"equity_share": values["equity_share"]},
            "side": values["direction"],
        }
    }


_FAST_BEFORE_SLOW = (("fast", "slow"),)
_PRICE_RANGE = (1e-16, float(MAXIMUM))

TEMPLATES: dict[str, Template] = {
    template.id: template
    for template in (
        Template(
            "tpl_buy_and_hold",
            "Buy and hold",
            "Buys at the first candle and holds to the end.",
            (_SHARE, _SIDE),
            _buy_and_hold,
        ),
        Template(
            "tpl_sma_cross",
            "SMA cross",
            "Buys when the fast simple moving average crosses above the slow one, sells when it"
            " crosses below.",
            (*_lengths(10, 50), *_COMMON),
            _average_cross("sma"),
            _FAST_BEFORE_SLOW,
        ),
        Template(
            "tpl_ema_cross",
            "EMA cross",
            "Buys when the fast exponential moving average crosses above the slow one, sells when"
            " it crosses below.",
            (*_lengths(12, 26), *_COMMON),
            _average_cross("ema"),
            _FAST_BEFORE_SLOW,
        ),
        Template(
            "tpl_rsi",
            "RSI reversal",
            "Buys when the relative strength index crosses above the oversold level, sells when"
            " it is above the overbought one.",
            (
                _count("period", "candles of the index", 14),
                _number("oversold", "level to buy at, 0 to 100", 0, 100, 30),
                _number("overbought", "level to sell at, 0 to 100", 0, 100, 70),
                *_COMMON,
            ),
            _rsi,
            (("oversold", "overbought"),),
        ),
        Template(
            "tpl_bollinger",
            "Bollinger reversal",
            "Buys when the close crosses below the lower band, sells when it is back at the"
            " average.",
            (
                _count("period", "candles of the average", 20),
                _number("deviations", "standard deviations to the bands", 0.01, 100, 2),
                *_COMMON,
            ),
            _bollinger,
        ),
        Template(
            "tpl_breakout",
            "Breakout",
            "Buys when the close is above the highest high of the candles before it (Donchian),"
            " sells when it is below their lowest low.",
            (
                _count("lookback", "candles whose highest high is broken", 20),
                _count("exit_lookback", "candles whose lowest low is broken", 10),
                *_COMMON,
            ),
            _breakout,
        ),
        Template(
            "tpl_macd",
            "MACD",
            "Buys when the MACD crosses above its signal line, sells when it crosses below.",
            (
                *_lengths(12, 26, least=2),
                _count("signal", "candles of the signal line", 9, 1),
                *_COMMON,
            ),
            _macd,
            _FAST_BEFORE_SLOW,
        ),
        Template(
            "tpl_dca",
            "Dollar-cost averaging",
            "Buys for the same amount every so many candles, and holds.",
            (
                _number("quote_amount", "quote currency to spend each time", 1e-8, 1e16, 100),
                _count("every", "candles from buy to buy", 24, least=1, most=MOST_EVERY),
                _SIDE,
            ),
            _dca,
        ),
        Template(
            "tpl_grid",
            "Grid",
            "Buys at every level that the price falls to, and sells each purchase one level"
            " higher, between two prices.",
            (
                _count(
                    "grid_levels", "prices of the grid, both ends included", 10, most=MOST_LEVELS
                ),
                _number("lower_price", "lowest price of the grid", *_PRICE_RANGE),
                _number("upper_price", "highest price of the grid", *_PRICE_RANGE),
                _SHARE,
                _SIDE,
            ),
            _grid,
            (("lower_price", "upper_price"),),
            is_of_one_symbol=True,
        ),
    )
}
"""Every template by its id."""
