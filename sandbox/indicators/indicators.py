"""Indicators by name: their parameters, their bounds, and their values from TA-Lib.

A value is NaN until there is enough history for it. Each value is computed from its own row and
earlier ones, so that it never depends on later ones. A new indicator is an entry in ``KINDS``.
"""

import importlib
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec

from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.indicators.bars import Bars
from candlestep.sandbox.market.candles import PRICES, Floats
from candlestep.sandbox.money import python_number

LONGEST_PERIOD = 100_000
"""The longest period of any indicator, in candles."""
MOST_INDICATORS = 50

_SMOOTHED = 5
_WILDER = 10
"""Multiples of the period after which smoothing by 2 / (period + 1), or by 1 / period (Wilder), has
forgotten all but e ** -10 of a value."""
_SIMPLE: Any = 0  # A simple moving average, where TA-Lib offers several kinds.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)


class Parameter(msgspec.Struct, frozen=True):
    """A number that an indicator takes; both bounds are included."""

    name: str
    default: int | float
    least: int | float
    most: int | float

    @property
    def is_whole(self) -> bool:
        """True if it counts candles."""
        return isinstance(self.default, int)


class Kind(msgspec.Struct, frozen=True):
    """A kind of indicator."""

    name: str
    description: str
    compute: Callable[..., Floats | tuple[Floats, ...]]
    """Computes the values from the columns, and the parameters by name."""
    parameters: tuple[Parameter, ...] = ()
    outputs: tuple[str, ...] = ()
    """Names of its values, if it has more than one."""
    columns: tuple[str, ...] = ()
    """Columns it is computed from; none if it takes any single one as its ``source``."""
    settles: int = 1
    """Multiple of its periods after which more history changes its values by less than a
    thousandth of their variation."""


class Indicator(msgspec.Struct, frozen=True):
    """A checked indicator of a strategy, with all its parameters."""

    kind: str
    parameters: dict[str, int | float]
    source: str | None
    """A column, an indicator, or a value of one; None if the kind has its own columns."""

    def content(self) -> dict[str, Any]:
        """Return the indicator as it is written in a card."""
        source = {} if self.source is None else {"source": self.source}
        return {"kind": self.kind, **self.parameters, **source}


def parse_indicators(raw: object, field: str = "indicators") -> dict[str, Indicator]:
    """Parse indicators by name, and sort them so that each follows its source.

    Raises ``InvalidParameter`` naming the place.
    """
    if not isinstance(raw, dict):
        raise InvalidParameter(field, 'must be an object such as {"fast": {"kind": "sma"}}')
    if len(raw) > MOST_INDICATORS:
        raise InvalidParameter(
            field, f"has {len(raw)} members; at most {MOST_INDICATORS} are allowed"
        )
    declared = {}
    for name, declaration in sorted(raw.items()):
        if not _NAME.fullmatch(name) or name in PRICES:
            raise InvalidParameter(
                f"{field}.{abbreviate(name)}",
                "a name has up to 64 letters, digits and _, begins with a letter, and is not one of"
                f" {', '.join(PRICES)}",
            )
        declared[name] = _parse_indicator(declaration, f"{field}.{name}")
    return _in_sequence(declared, field)


def history_of(indicators: Mapping[str, Indicator]) -> int:
    """Return the number of candles of history that noticeably affect any of the indicators."""
    candles: dict[str, int] = {}
    for name, indicator in indicators.items():
        kind = KINDS[indicator.kind]
        counts = [parameter.name for parameter in kind.parameters if parameter.is_whole]
        periods = sum(int(indicator.parameters[count]) for count in counts)
        source = (indicator.source or "").partition(".")[0]
        candles[name] = candles.get(source, 0) + kind.settles * periods
    return max(candles.values(), default=0)


def value_names(indicators: Mapping[str, Indicator]) -> list[str]:
    """Return the names that conditions may use: the columns, ``fast``, ``bands.upper``."""
    names = list(PRICES)
    for name, indicator in indicators.items():
        names += _names_of(name, indicator)
    return names


class Values:
    """The columns of bars and the values of indicators over all of them, by name."""

    def __init__(self, bars: Bars, indicators: Mapping[str, Indicator]) -> None:
        """Compute every indicator; they must be in the sequence of ``parse_indicators``."""
        self._columns: dict[str, Floats] = {name: getattr(bars, name) for name in PRICES}
        for name, indicator in indicators.items():
            names = _names_of(name, indicator)
            self._columns.update(zip(names, self._compute(indicator), strict=True))

    def __getitem__(self, name: str) -> Floats:
        return self._columns[name]

    def _compute(self, indicator: Indicator) -> tuple[Floats, ...]:
        kind = KINDS[indicator.kind]
        names = kind.columns if indicator.source is None else (indicator.source,)
        values = kind.compute(*(self._columns[name] for name in names), **indicator.parameters)
        return values if isinstance(values, tuple) else (values,)


def _names_of(name: str, indicator: Indicator) -> list[str]:
    outputs = KINDS[indicator.kind].outputs
    return [f"{name}.{output}" for output in outputs] if outputs else [name]


def _parse_indicator(raw: object, field: str) -> Indicator:
    declared_kind = raw.get("kind") if isinstance(raw, dict) else None
    kind = KINDS.get(declared_kind) if isinstance(declared_kind, str) else None
    if not isinstance(raw, dict) or kind is None:
        raise InvalidParameter(f"{field}.kind", f"must be one of {', '.join(KINDS)}")
    known = [parameter.name for parameter in kind.parameters]
    if not kind.columns:
        known.append("source")
    for name in raw:
        if name != "kind" and name not in known:
            takes = ", ".join(known) or "nothing"
            raise InvalidParameter(f"{field}.{abbreviate(name)}", f"{kind.name} takes {takes}")
    parameters = {
        parameter.name: _parse_parameter(
            raw.get(parameter.name, parameter.default), parameter, f"{field}.{parameter.name}"
        )
        for parameter in kind.parameters
    }
    if parameters.get("fast", 0) >= parameters.get("slow", LONGEST_PERIOD + 1):
        raise InvalidParameter(f"{field}.fast", "must be less than slow")
    source = None if kind.columns else raw.get("source", "close")
    if not isinstance(source, str) and not kind.columns:
        raise InvalidParameter(f"{field}.source", "must name a column or an indicator")
    return Indicator(kind.name, parameters, source)


def _parse_parameter(value: object, parameter: Parameter, field: str) -> int | float:
    number = python_number(value)
    value = float(number) if isinstance(number, Decimal) else number
    whole = "a whole number" if parameter.is_whole else "a number"
    if (
        isinstance(value, bool)
        or not isinstance(value, int if parameter.is_whole else int | float)
        or not parameter.least <= value <= parameter.most
    ):
        raise InvalidParameter(
            field,
            f"must be {whole} from {parameter.least} to {parameter.most}, got {abbreviate(value)}",
        )
    return value if parameter.is_whole else float(value)


def _in_sequence(declared: dict[str, Indicator], field: str) -> dict[str, Indicator]:
    """Sort indicators so that each follows its source."""
    names = value_names(declared)
    for name, indicator in declared.items():
        if indicator.source is not None and indicator.source not in names:
            raise InvalidParameter(
                f"{field}.{name}.source",
                f"{abbreviate(indicator.source)!r} is not one of {', '.join(names)}",
            )
    in_sequence: dict[str, Indicator] = {}
    while len(in_sequence) < len(declared):
        ready = [
            name
            for name, indicator in declared.items()
            if name not in in_sequence
            and (indicator.source is None or indicator.source in value_names(in_sequence))
        ]
        if not ready:
            name = next(name for name in declared if name not in in_sequence)
            raise InvalidParameter(
                f"{field}.{name}.source",
                "is computed from the indicator itself; choose another source",
            )
        in_sequence.update((name, declared[name]) for name in ready)
    return in_sequence


def _period(default: int, least: int = 2, name: str = "period") -> Parameter:
    return Parameter(name, default, least, LONGEST_PERIOD)


def load_functions() -> None:
    """Load TA-Lib now, and not only when the first indicator is computed.

    This takes a second where pandas or polars are installed, which it loads too.
    """
    importlib.import_module("talib")


def _ta(name: str) -> Callable[..., Any]:
    """Return a function of TA-Lib, which its first call loads: a server computes no indicator."""

    def compute(*series: Floats, **parameters: float) -> Any:
        import talib

        return getattr(talib, name)(*series, **parameters)

    return compute


def _of_period(
    name: str,
    description: str,
    function: Callable[..., Floats],
    default: int,
    least: int = 2,
    settles: int = 1,
    columns: tuple[str, ...] = (),
) -> Kind:
    """Return a kind that takes a period, and a source unless it has ``columns`` of its own."""
    return Kind(
        name,
        description,
        lambda *series, period: function(*series, timeperiod=period),
        (_period(default, least),),
        columns=columns,
        settles=settles,
    )


def _bollinger(source: Floats, period: int, deviations: float) -> tuple[Floats, ...]:
    widths = {"nbdevup": deviations, "nbdevdn": deviations}
    return tuple(_ta("BBANDS")(source, timeperiod=period, **widths, matype=_SIMPLE))


def _donchian(high: Floats, low: Floats, period: int) -> tuple[Floats, ...]:
    upper, lower = _ta("MAX")(high, timeperiod=period), _ta("MIN")(low, timeperiod=period)
    return upper, (upper + lower) / 2, lower


def _macd(source: Floats, fast: int, slow: int, signal: int) -> tuple[Floats, ...]:
    return tuple(_ta("MACD")(source, fastperiod=fast, slowperiod=slow, signalperiod=signal))


def _stochastic(
    high: Floats, low: Floats, close: Floats, period: int, smooth: int, signal: int
) -> tuple[Floats, ...]:
    return tuple(
        _ta("STOCH")(
            high,
            low,
            close,
            fastk_period=period,
            slowk_period=smooth,
            slowk_matype=_SIMPLE,
            slowd_period=signal,
            slowd_matype=_SIMPLE,
        )
    )


def _aroon(high: Floats, low: Floats, period: int) -> tuple[Floats, ...]:
    down, up = _ta("AROON")(high, low, timeperiod=period)
    return up, down


_RANGE = ("high", "low", "close")
_of_range = partial(_of_period, columns=_RANGE)

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        _of_period("sma", "simple moving average", _ta("SMA"), 20, 1),
        _of_period("ema", "exponential moving average", _ta("EMA"), 20, 1, _SMOOTHED),
        _of_period("wma", "linearly weighted moving average", _ta("WMA"), 20, 1),
        _of_period("dema", "double exponential moving average", _ta("DEMA"), 20, 2, 2 * _SMOOTHED),
        _of_period("tema", "triple exponential moving average", _ta("TEMA"), 20, 2, 3 * _SMOOTHED),
        _of_period("kama", "Kaufman's adaptive moving average", _ta("KAMA"), 20, 2, _WILDER),
        _of_period("highest", "highest of the last candles, this one included", _ta("MAX"), 20),
        _of_period("lowest", "lowest of the last candles, this one included", _ta("MIN"), 20),
        _of_period("deviation", "standard deviation of the population", _ta("STDDEV"), 20),
        _of_period("rsi", "relative strength index (Wilder), 0 to 100", _ta("RSI"), 14, 2, _WILDER),
        _of_period("momentum", "difference from the value a period before", _ta("MOM"), 10, 1),
        _of_period("roc", "change from the value a period before, in percent", _ta("ROC"), 10, 1),
        _of_period("slope", "slope of the regression line, per candle", _ta("LINEARREG_SLOPE"), 14),
        _of_period(
            "trix", "1-candle change of a triple EMA, in percent", _ta("TRIX"), 15, 1, 3 * _SMOOTHED
        ),
        Kind(
            "macd",
            "moving average convergence and divergence, with its signal line",
            _macd,
            (_period(12, name="fast"), _period(26, name="slow"), _period(9, 1, "signal")),
            ("macd", "signal", "histogram"),
            settles=_SMOOTHED,
        ),
        Kind(
            "bollinger",
            "simple moving average, and standard deviations around it",
            _bollinger,
            (_period(20), Parameter("deviations", 2.0, 0.01, 100)),
            ("upper", "middle", "lower"),
        ),
        Kind(
            "donchian",
            "highest high and lowest low of the last candles, this one included",
            _donchian,
            (_period(20),),
            ("upper", "middle", "lower"),
            ("high", "low"),
        ),
        Kind(
            "stochastic",
            "slow stochastic oscillator, 0 to 100",
            _stochastic,
            (_period(14, 1), _period(3, 1, "smooth"), _period(3, 1, "signal")),
            ("k", "d"),
            _RANGE,
        ),
        Kind(
            "aroon",
            "candles since the highest high and the lowest low, as 100 down to 0",
            _aroon,
            (_period(14),),
            ("up", "down"),
            ("high", "low"),
        ),
        Kind(
            "sar",
            "parabolic stop and reverse, followed from the first candle",
            _ta("SAR"),
            (Parameter("acceleration", 0.02, 0.0001, 1), Parameter("maximum", 0.2, 0.0001, 1)),
            columns=("high", "low"),
        ),
        _of_range("atr", "average true range (Wilder)", _ta("ATR"), 14, 1, _WILDER),
        _of_range(
            "natr", "average true range in percent of the close", _ta("NATR"), 14, 1, _WILDER
        ),
        _of_range("adx", "average directional index", _ta("ADX"), 14, 2, 2 * _WILDER),
        _of_range("plus_di", "positive directional indicator", _ta("PLUS_DI"), 14, 1, _WILDER),
        _of_range("minus_di", "negative directional indicator", _ta("MINUS_DI"), 14, 1, _WILDER),
        _of_range("cci", "commodity channel index", _ta("CCI"), 14),
        _of_range("williams_r", "Williams' %R, -100 to 0", _ta("WILLR"), 14),
        _of_period(
            "mfi", "money flow index, 0 to 100", _ta("MFI"), 14, columns=(*_RANGE, "volume")
        ),
        Kind(
            "obv",
            "on-balance volume, counted from the first candle",
            _ta("OBV"),
            columns=("close", "volume"),
        ),
        Kind("typical_price", "mean of high, low and close", _ta("TYPPRICE"), columns=_RANGE),
    )
}
"""Every kind of indicator by name."""
