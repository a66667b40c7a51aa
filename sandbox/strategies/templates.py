"""Templates: named cards with parameters, their bounds and defaults."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Literal

import msgspec

from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.indicators.indicators import LONGEST_PERIOD
from candlestep.sandbox.money import EXACT, MAXIMUM, parse_number
from candlestep.sandbox.strategies.card import MOST_EVERY, MOST_LEVELS

Parameters = Mapping[str, Any]


class TemplateParameter(msgspec.Struct, frozen=True):
    """A parameter of a template; both bounds are included.

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


class Template(msgspec.Struct, frozen=True):
    """A named card with parameters."""

    id: str
    name: str
    description: str
    parameters: tuple[TemplateParameter, ...]
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
        parameter.name: _parse_value(parameter, parameters.get(parameter.name))
        for parameter in template.parameters
    }
    for lesser, greater in template.rules:
        if not Decimal(str(values[lesser])) < Decimal(str(values[greater])):
            raise InvalidParameter(
                f"parameters.{lesser}",
                f"must be less than {greater}, which is {values[greater]}",
            )
    return values, template.card(values)


def _parse_value(parameter: TemplateParameter, value: object) -> int | str | None:
    """Check a value and return it as a whole number, a decimal as text, or None."""
    field = f"parameters.{parameter.name}"
    if value is None:
        if parameter.is_required:
            raise InvalidParameter(field, f"is missing: {parameter.description}")
        if parameter.default is None:
            return None
        value = parameter.default
    number = parse_number(field, value)
    bounds = f"from {parameter.least} to {parameter.most}"
    if not _decimal(parameter.least) <= number <= _decimal(parameter.most):
        raise InvalidParameter(field, f"must be {bounds}, got {abbreviate(value)}")
    if parameter.type == "number":
        return f"{EXACT.normalize(number):f}"
    if number != int(number):
        raise InvalidParameter(field, f"must be a whole number {bounds}, got {abbreviate(value)}")
    return int(number)


def _decimal(bound: float) -> Decimal:
    return Decimal(str(bound))


def _count(name: str, description: str, default: int, least: int = 2) -> TemplateParameter:
    return TemplateParameter(name, description, "integer", least, LONGEST_PERIOD, default)


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
_COMMON = (_SHARE, *_GUARDS)


def _entry(values: Parameters, **rule: Any) -> dict[str, Any]:
    """Return an entry with the size and the guards in ``values``."""
    entry = {**rule, "size": {"equity_share": values["equity_share"]}}
    for name in ("stop_loss", "take_profit"):
        if values[f"{name}_pct"] is not None:
            entry[name] = {"percent": values[f"{name}_pct"]}
    return entry


def _rules(
    values: Parameters, indicators: dict[str, Any], entry: dict[str, Any], exit: dict[str, Any]
) -> dict[str, Any]:
    return {
        "indicators": indicators,
        "entries": [_entry(values, when=entry)],
        "exits": [{"when": exit}],
    }


def _compare(left: Any, op: str, right: Any) -> dict[str, Any]:
    return {"left": left, "op": op, "right": right}


def _buy_and_hold(values: Parameters) -> dict[str, Any]:
    return {"entries": [{"every": 1, "size": {"equity_share": values["equity_share"]}}]}


def _average_cross(kind: str) -> Callable[[Parameters], dict[str, Any]]:
    def card(values: Parameters) -> dict[str, Any]:
        return _rules(
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
        _compare("rsi", "crosses_above", float(values["oversold"])),
        _compare("rsi", ">", float(values["overbought"])),
    )


def _bollinger(values: Parameters) -> dict[str, Any]:
    deviations = float(values["deviations"])
    return _rules(
        values,
        {"bands": {"kind": "bollinger", "period": values["period"], "deviations": deviations}},
        _compare("close", "crosses_below", "bands.lower"),
        _compare("close", ">=", "bands.middle"),
    )


def _breakout(values: Parameters) -> dict[str, Any]:
    return _rules(
        values,
        {
            "above": {"kind": "donchian", "period": values["lookback"]},
            "below": {"kind": "donchian", "period": values["exit_lookback"]},
        },
        _compare("close", ">", {"of": "above.upper", "ago": 1}),
        _compare("close", "<", {"of": "below.lower", "ago": 1}),
    )


def _macd(values: Parameters) -> dict[str, Any]:
    lengths = {name: values[name] for name in ("fast", "slow", "signal")}
    return _rules(
        values,
        {"macd": {"kind": "macd", **lengths}},
        _compare("macd.macd", "crosses_above", "macd.signal"),
        _compare("macd.macd", "crosses_below", "macd.signal"),
    )


def _dca(values: Parameters) -> dict[str, Any]:
    size = {"quote": values["quote_amount"]}
    return {"entries": [{"every": values["every"], "add": True, "size": size}]}


def _grid(values: Parameters) -> dict[str, Any]:
    return {
        "grid": {
            "lower": values["lower_price"],
            "upper": values["upper_price"],
            "levels": values["grid_levels"],
            "size": {"equity_share": values["equity_share"]},
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
            (_SHARE,),
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
                TemplateParameter("every", "candles from buy to buy", "integer", 1, MOST_EVERY, 24),
            ),
            _dca,
        ),
        Template(
            "tpl_grid",
            "Grid",
            "Buys at every level that the price falls to, and sells each purchase one level"
            " higher, between two prices.",
            (
                TemplateParameter(
                    "grid_levels",
                    "prices of the grid, both ends included",
                    "integer",
                    2,
                    MOST_LEVELS,
                    10,
                ),
                _number("lower_price", "lowest price of the grid", *_PRICE_RANGE),
                _number("upper_price", "highest price of the grid", *_PRICE_RANGE),
                _SHARE,
            ),
            _grid,
            (("lower_price", "upper_price"),),
            is_of_one_symbol=True,
        ),
    )
}
"""Every template by its id."""
