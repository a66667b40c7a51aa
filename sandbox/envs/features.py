"""Features: numbers of candles that an agent observes, each computed from its row and earlier ones.

A feature is a name, an indicator such as ``{"kind": "ema", "period": 50}``, or a function of bars.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.clock import DAY, Clock, format_time
from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.exchange.batch.exact import Floats, Integers
from candlestep.sandbox.indicators.bars import Bars, aggregate_bars
from candlestep.sandbox.indicators.indicators import KINDS, Values, parse_indicators
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import parse_number

Feature = str | Mapping[str, Any] | Callable[[Bars], Any]
"""A name of ``NAMED`` or of an indicator, an indicator with its parameters, or a function."""

Constants = Mapping[str, Mapping[str, Sequence[float]]]
"""The mean and the standard deviation of each feature, by symbol and name of the column."""

RETURNS = ("open_return", "high_return", "low_return", "close_return", "log_volume")
"""The features of ``features="returns"``."""
_VOLUME_PERIOD = 20
_VOLATILITY_PERIOD = 30
_CHUNK = 2**16


class Columns(NamedTuple):
    """The columns of a feature, and a name for each."""

    names: tuple[str, ...]
    values: Floats
    """A row for each bar."""


class FeatureTable(NamedTuple):
    """The features of all symbols: the bars of the first, then those of the second, and so on."""

    names: tuple[str, ...]
    values: NDArray[np.float32]
    """A row for each bar, a column for each of ``names``; read-only."""
    row: Integers
    """For each symbol and step of the clock, the row of its latest complete bar."""
    first_step: int
    """The first step at which every feature of every window is finite."""
    starts: tuple[int, ...]
    """The first row of each symbol."""
    constants: Constants | None = None
    """Those by which the values are standardised, if they are."""

    def scaled_by(self, constants: Constants) -> "FeatureTable":
        """Return the features less their means, over their standard deviations.

        ``constants`` are those of the symbols in their sequence. One that is 0 divides nothing.
        """
        parts = []
        for part, columns in zip(self._parts, constants.values(), strict=True):
            mean, deviation = np.array([columns[name] for name in self.names]).T
            scaled = (part - mean) / np.where(deviation == 0, 1, deviation)
            parts.append(scaled.astype(np.float32))
        values = np.concatenate(parts)
        values.flags.writeable = False
        return self._replace(values=values, constants=constants)

    def fitted(self, symbols: Sequence[str], first: int, last: int, window: int) -> Constants:
        """Return the constants of what is observed from the step ``first`` to the step ``last``."""
        fitted: dict[str, dict[str, tuple[float, float]]] = {}
        for symbol, rows in zip(symbols, self.row, strict=True):
            seen = self.values[rows[first] - window + 1 : rows[last] + 1].astype(np.float64)
            pairs = zip(seen.mean(axis=0).tolist(), seen.std(axis=0).tolist(), strict=True)
            fitted[symbol] = dict(zip(self.names, pairs, strict=True))
        return fitted

    def checked(self, constants: object, symbols: Sequence[str]) -> Constants:
        """Return constants of exactly ``symbols`` and features; raises ``InvalidParameter``."""
        by_symbol = _members("standardize", constants, symbols)
        return {
            symbol: {
                name: _mean_and_deviation(f"standardize.{symbol}.{name}", pair)
                for name, pair in _members(
                    f"standardize.{symbol}", by_symbol[symbol], self.names
                ).items()
            }
            for symbol in symbols
        }

    def windows(self, window: int, room: int) -> NDArray[np.float32]:
        """Return a read-only view with every window as a row, and ``room`` numbers behind it.

        A row runs on into the rows of the table after it, so that one copy makes both the window
        and the place for the account, which overwrites them.
        """
        width = len(self.names)
        padded = np.zeros(self.values.size + room, dtype=np.float32)
        padded[: self.values.size] = self.values.reshape(-1)
        size = padded.itemsize
        shape = (len(self.values) - window + 1, window * width + room)
        strides = (width * size, size)
        return np.lib.stride_tricks.as_strided(padded, shape, strides, writeable=False)

    @property
    def _parts(self) -> list[NDArray[np.float32]]:
        """The values of each symbol."""
        return np.split(self.values, self.starts[1:])


def feature_table(
    market: Market, symbols: Sequence[str], features: Sequence[Feature], clock: Clock, window: int
) -> FeatureTable:
    """Compute the features of ``symbols`` on bars of the clock's interval. Linear.

    Raises ``InvalidParameter`` for unknown names, for functions that look ahead, and for values
    that are not finite after the first finite row, naming row and feature.
    """
    times = clock.start + clock.interval * np.arange(clock.total_steps + 1)
    tables, rows, first_steps, starts = [], [], [], []
    names: tuple[str, ...] = ()
    offset = 0
    for symbol in symbols:
        bars = aggregate_bars(market.candles_of(symbol), clock.interval)
        columns = [columns_of(feature, bars) for feature in features]
        names = tuple(name for one in columns for name in one.names)
        table = np.concatenate([one.values for one in columns], axis=1)
        with np.errstate(over="ignore"):
            table = np.ascontiguousarray(table, dtype=np.float32)
        first = _first_finite(table, names, bars)
        row = np.searchsorted(bars.complete_time, times, side="right") - 1
        first_steps.append(int(np.searchsorted(row, first + window - 1)))
        rows.append(row + offset)
        tables.append(table)
        starts.append(offset)
        offset += len(table)
    first_step = max(first_steps)
    if first_step >= clock.total_steps:
        raise InvalidParameter(
            "window",
            f"no window of {window} candles is whole before the last step; load more candles, or"
            " use a smaller window or features that need less history",
        )
    values = np.concatenate(tables)
    values.flags.writeable = False
    return FeatureTable(names, values, np.array(rows), first_step, tuple(starts))


def columns_of(feature: Feature, bars: Bars) -> Columns:
    """Return the columns of a feature over bars; raises ``InvalidParameter``."""
    if callable(feature):
        return _of_function(feature, bars)
    if isinstance(feature, Mapping):
        name = str(feature.get("kind"))
        return _of_indicator(name, dict(feature), bars)
    if feature in NAMED:
        return NAMED[feature](bars)
    if feature in KINDS:
        return _of_indicator(feature, {"kind": feature}, bars)
    raise InvalidParameter(
        "features",
        f"{abbreviate(feature)!r} is not one of returns, {', '.join(NAMED)}, or the indicators"
        f" {', '.join(KINDS)}",
    )


def _of_indicator(name: str, content: dict[str, Any], bars: Bars) -> Columns:
    indicators = parse_indicators({"feature": content}, "features")
    values = Values(bars, indicators)
    outputs = KINDS[indicators["feature"].kind].outputs
    columns = [values[f"feature.{output}"] for output in outputs] or [values["feature"]]
    names = [f"{name}.{output}" for output in outputs] or [name]
    return _columns(names, columns)


def _of_function(function: Callable[[Bars], Any], bars: Bars) -> Columns:
    """Return what a function gives for bars, if it gives the same for the first of them alone."""
    name = getattr(function, "__name__", type(function).__name__)
    values = _call(function, name, bars)
    count = len(bars.close)
    for stop in sorted({count // 3, count - count // 7, count - 1} - {0}):
        past = _call(function, name, _first_bars(bars, stop))
        same = np.asarray((past == values[:stop]) | (np.isnan(past) & np.isnan(values[:stop])))
        if past.shape != values[:stop].shape or not same.all():
            row = int((~same).any(axis=1).argmax())
            raise InvalidParameter(
                "features",
                f"the function {name} looks ahead: row {row} changes when the candles from row"
                f" {stop} on are missing; compute each row from itself and earlier rows",
                row=row,
            )
    width = values.shape[1]
    return Columns((name,) if width == 1 else tuple(f"{name}.{n}" for n in range(width)), values)


def _call(function: Callable[[Bars], Any], name: str, bars: Bars) -> Floats:
    values = np.array(function(_first_bars(bars, len(bars.close))), dtype=np.float64)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or len(values) != len(bars.close):
        raise InvalidParameter(
            "features",
            f"the function {name} must return a row for each of {len(bars.close)} candles, got"
            f" shape {values.shape}",
        )
    return values


def _first_bars(bars: Bars, stop: int) -> Bars:
    """Return the first bars, with read-only columns."""
    columns: list[Any] = [column[:stop] for column in bars[1:]]
    for column in columns:
        column.flags.writeable = False
    return Bars(bars.symbol, *columns)


def _members(field: str, mapping: object, names: Sequence[str]) -> dict[str, Any]:
    """Return what a mapping has for each of ``names``, which must be all that it has."""
    if not isinstance(mapping, Mapping) or set(mapping) != set(names):
        raise InvalidParameter(
            field,
            f"must be True, or feature_constants of {', '.join(names)}, got {abbreviate(mapping)}",
        )
    return {name: mapping[name] for name in names}


def _mean_and_deviation(field: str, pair: object) -> tuple[float, float]:
    if isinstance(pair, list | tuple) and len(pair) == 2:
        mean, deviation = (parse_number(field, number) for number in pair)
        if deviation >= 0:
            return float(mean), float(deviation)
    raise InvalidParameter(
        field, f"must be a mean and a standard deviation, got {abbreviate(pair)}"
    )


def _columns(names: Sequence[str], values: Sequence[Floats]) -> Columns:
    return Columns(tuple(names), np.stack(values, axis=1))


def _first_finite(table: NDArray[np.float32], names: Sequence[str], bars: Bars) -> int:
    """Return the first row whose features are all finite; raise if a later one is not."""
    finite = np.isfinite(table)
    whole = np.asarray(finite.all(axis=1))
    first = int(whole.argmax())
    if not whole.any():
        column = int(finite.any(axis=0).argmin())
        raise InvalidParameter(
            "features",
            f"{names[column]} of {bars.symbol} has no finite value; it needs more than"
            f" {len(table)} candles",
        )
    if not whole[first:].all():
        row = first + int(whole[first:].argmin())
        column = int(finite[row].argmin())
        raise InvalidParameter(
            "features",
            f"{names[column]} of {bars.symbol} is {table[row, column]} in row {row}, complete at"
            f" {format_time(int(bars.complete_time[row]))}; give a finite number",
            row=row,
            feature=names[column],
        )
    return first


def _log_ratio(numbers: Floats, close: Floats) -> Floats:
    """Return the logarithm of each number over the close before it."""
    ratios = np.full(len(close), np.nan)
    ratios[1:] = np.log(numbers[1:] / close[:-1])
    return ratios


def _rolling(values: Floats, period: int, function: Callable[..., Any]) -> Floats:
    """Return ``function`` of the last ``period`` values up to each; NaN before."""
    rolled = np.full(len(values), np.nan)
    if len(values) >= period:
        windows = np.lib.stride_tricks.sliding_window_view(values, period)
        for start in range(0, len(windows), _CHUNK):  # Windows are copied: some at a time.
            part = function(windows[start : start + _CHUNK], axis=1)
            rolled[period - 1 + start : period - 1 + start + len(part)] = part
    return rolled


def _return_of(column: str) -> Callable[[Bars], Columns]:
    name = f"{column}_return"
    return lambda bars: _columns([name], [_log_ratio(getattr(bars, column), bars.close)])


def _log_volume(bars: Bars) -> Columns:
    mean = _rolling(bars.volume, _VOLUME_PERIOD, np.mean)
    share = np.divide(bars.volume, mean, out=np.zeros_like(mean), where=mean != 0)
    share[np.isnan(mean)] = np.nan
    return _columns(["log_volume"], [np.log1p(share)])


def _volatility(bars: Bars) -> Columns:
    returns = _log_ratio(bars.close, bars.close)
    return _columns(["volatility"], [_rolling(returns, _VOLATILITY_PERIOD, np.std)])


def _rsi(bars: Bars) -> Columns:
    return Columns(("rsi",), _of_indicator("rsi", {"kind": "rsi"}, bars).values / 100)


def _macd(bars: Bars) -> Columns:
    columns = _of_indicator("macd", {"kind": "macd"}, bars)
    return Columns(columns.names, columns.values / bars.close[:, None])


def _bollinger(bars: Bars) -> Columns:
    upper, middle, lower = _of_indicator("bollinger", {"kind": "bollinger"}, bars).values.T
    width = upper - lower
    place = np.divide(bars.close - lower, width, out=np.full_like(width, 0.5), where=width != 0)
    place[np.isnan(width)] = np.nan
    return _columns(["bollinger.place", "bollinger.width"], [place, width / middle])


def _time_of_day(bars: Bars) -> Columns:
    angle = 2 * np.pi * (bars.complete_time % DAY) / DAY
    return _columns(["time_of_day.sin", "time_of_day.cos"], [np.sin(angle), np.cos(angle)])


NAMED: dict[str, Callable[[Bars], Columns]] = {
    "open_return": _return_of("open"),
    "high_return": _return_of("high"),
    "low_return": _return_of("low"),
    "close_return": _return_of("close"),
    "log_volume": _log_volume,
    "volatility": _volatility,
    "rsi": _rsi,
    "macd": _macd,
    "bollinger": _bollinger,
    "time_of_day": _time_of_day,
}
"""The features with a name, each normalised by the past alone.

``open_return`` to ``close_return``: logarithm of the price over the close before. ``log_volume``:
ln(1 + volume / mean volume of 20 candles). ``volatility``: standard deviation of 30 close returns.
``rsi``: RSI(14) / 100. ``macd``: MACD(12, 26, 9), its signal and histogram, over the close.
``bollinger``: place of the close within the bands (20, 2), 0 to 1, and their width over the middle.
``time_of_day``: sine and cosine of the time in UTC at which the candle is complete.
"""
