"""Planning a run: a request is checked against the candles in the store.

Every API that runs strategies plans its runs here: it compiles the strategy (``compile_for``), reads
the period (``Period``), looks up the candles (``MarketScope``), states the costs (``CostTerms``) and
plans the run (``plan_run``). Errors name the fields as the API does (``FieldNames``).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from candlestep.api.errors import with_field_names
from candlestep.api.jobs.margin import MarginTerms
from candlestep.api.jobs.run import session_config
from candlestep.data.clock import now
from candlestep.data.market.catalogue import (
    Catalogue,
    Series,
    by_symbol,
    covered_periods,
    covered_spans,
    straddling_interval,
)
from candlestep.data.records.jobs import JobOrigin, RunSpec
from candlestep.data.symbols import is_perpetual, normalise_exchange, normalise_symbol
from candlestep.sandbox import (
    InvalidParameter,
    format_time,
    interval_name,
    parse_interval,
    parse_time,
)
from candlestep.sandbox.clock import Clock, candle_span
from candlestep.sandbox.config import MarketType
from candlestep.sandbox.errors import NoPrice
from candlestep.sandbox.market.coverage import Coverage, SessionWarning, coverage_of
from candlestep.sandbox.market.spans import Span
from candlestep.sandbox.money import format_decimal
from candlestep.sandbox.strategies import TEMPLATES, Strategy, compile_strategy

_DEFAULT_MARGIN = MarginTerms()
MOST_YEARS = 5
"""Between the start and the end of a run, on every API."""
IMPORT_FUNDING = "import its funding rates: candlestep data import FILE"
"""The remedy for funding rates that a run lacks."""


class FieldNames(NamedTuple):
    """The names that an API has for the fields of a run."""

    exchange: str = "exchange"
    symbols: str = "symbols"
    symbol: str = "symbol"
    """In the details of an error about one symbol."""
    timeframe: str = "timeframe"
    start: str = "start"
    end: str = "end"
    leverage: str = "leverage"
    session: Mapping[str, str] = {}
    """By argument of ``SessionConfig``, where the names differ."""
    strategy: Mapping[str, str] = {}
    """By field of a strategy, where the names differ."""
    strategy_within: str = ""
    """The path in front of a strategy's other fields, such as ``card.``."""


class Period(NamedTuple):
    """A period in the past, and the candles that open in it. All in milliseconds."""

    start: int
    end: int
    """Included, as ``start`` is."""
    first: int
    """When the first candle opens."""
    last: int
    """When the last candle is complete."""

    @classmethod
    def parse(cls, start: str, end: str, interval: int, names: FieldNames) -> "Period":
        """Return the period from ``start`` to ``end``, both included, with candles of ``interval``.

        Raises ``InvalidParameter`` if it is longer than ``MOST_YEARS``, has no candle or ends in
        the future.
        """
        start_time, end_time = parse_times(start, end, names)
        if end_time > now():
            raise InvalidParameter(names.end, "must not be in the future")
        if is_too_long(start_time, end_time):
            raise InvalidParameter(
                names.end, f"may be at most {MOST_YEARS} years after {_last_part(names.start)}"
            )
        # A candle that opens at the end itself is the last.
        first, last = candle_span(start_time, end_time + interval, interval)
        if first >= last:
            raise InvalidParameter(
                names.end,
                f"no candle opens from {_last_part(names.start)} to {_last_part(names.end)}",
            )
        return cls(start_time, end_time, first, last)


def parse_times(start: str, end: str, names: FieldNames) -> tuple[int, int]:
    """Return two times in ms; raise ``InvalidParameter`` unless the second is the later one."""
    start_time, end_time = parse_time(start, names.start), parse_time(end, names.end)
    if start_time >= end_time:
        raise InvalidParameter(names.end, f"must be after {_last_part(names.start)}")
    return start_time, end_time


def is_too_long(start: int, end: int) -> bool:
    """Return whether a period is longer than ``MOST_YEARS``; 29 February plus 5 is 1 March."""
    day = datetime.fromtimestamp(start // 1000, UTC)
    try:
        latest = day.replace(year=day.year + MOST_YEARS)
    except ValueError:
        latest = day.replace(year=day.year + MOST_YEARS, month=3, day=1)
    return end > int(latest.timestamp()) * 1000 + start % 1000


class MarketScope(NamedTuple):
    """The symbols of a run on one exchange, and the series of candles of each."""

    exchange: str
    series: Mapping[str, Sequence[Series]]
    """By symbol; empty for one without candles."""
    names: FieldNames
    """For errors."""
    left_out: Sequence[str] = ()
    """The symbols of the request that have no candles in the period."""

    @classmethod
    def resolve(
        cls, catalogue: Catalogue, exchange: str, symbols: Iterable[str], names: FieldNames
    ) -> "MarketScope":
        """Look up the candles of symbols.

        Raises ``InvalidParameter`` for a malformed name, and for spot pairs and perpetuals together.
        """
        exchange = normalise_exchange(exchange, names.exchange)
        groups = by_symbol(catalogue.series())
        normalised = [normalise_symbol(symbol, names.symbols) for symbol in symbols]
        _require_one_kind(normalised, names.symbols)
        series = {symbol: groups.get((exchange, symbol), []) for symbol in normalised}
        return cls(exchange, series, names)

    @property
    def symbols(self) -> list[str]:
        return list(self.series)

    @property
    def market_type(self) -> MarketType:
        """The kind of all symbols."""
        return "perp" if any(map(is_perpetual, self.series)) else "spot"

    def currency(self) -> str | None:
        """Return the quote currency of all symbols, None without candles.

        Raises ``InvalidParameter`` if they have several.
        """
        currencies = {series[0].quote for series in self.series.values() if series}
        if len(currencies) > 1:
            raise InvalidParameter(
                self.names.symbols,
                f"must share one quote currency, not {' and '.join(sorted(currencies))}",
            )
        return next(iter(currencies), None)

    def finest(self, start: int, end: int) -> int | None:
        """Return the interval of the finest candles from ``start`` until before ``end``, in ms.

        With several symbols it is the coarsest of theirs; None without candles.
        """
        overlapping = (
            [candles.interval for candles in series if candles.start < end and candles.end > start]
            for series in self.series.values()
        )
        return max((min(intervals) for intervals in overlapping if intervals), default=None)

    def with_candles(self, period: Period, interval: int, catalogue: str) -> "MarketScope":
        """Return the scope without the symbols that have no candles in the period.

        Raises ``NoPrice`` if none is left, naming the nearest candles of the first symbol;
        ``catalogue`` is the request that lists the available candles, for the message. Raises
        ``InvalidParameter`` if the candles of a symbol are coarser than ``interval``, or straddle
        its bounds.
        """
        kept = {}
        for symbol, series in self.series.items():
            alone = self._replace(series={symbol: series})
            finest = alone.finest(period.first, period.last)
            if finest is not None and finest > interval:
                raise InvalidParameter(
                    self.names.timeframe,
                    f"must be {interval_name(finest)} or more: {symbol} has no finer candles in"
                    " this period",
                )
            alone.require_whole(period, interval)
            if candles_within(series, interval, period.first, period.last):
                kept[symbol] = series
        if not kept:
            symbol, series = next(iter(self.series.items()))
            raise NoPrice(
                f"there are no candles of {', '.join(self.symbols)} on {self.exchange} in this"
                f" period{_nearest(series, interval, period, catalogue)}",
                **{self.names.symbol: symbol},
            )
        left_out = [symbol for symbol in self.series if symbol not in kept]
        return self._replace(series=kept, left_out=left_out)

    def require_whole(self, period: Period, timeframe: int) -> None:
        """Raise ``InvalidParameter`` if candles in the period straddle the bounds of a timeframe."""
        for symbol, series in self.series.items():
            own = straddling_interval(series, timeframe, period.first, period.last)
            if own is not None:
                name = interval_name(timeframe)
                raise InvalidParameter(
                    self.names.timeframe,
                    f"must not be {name}: candles of {symbol} of {interval_name(own)} in this period"
                    f" straddle the bounds of {name} in UTC; choose {interval_name(own)}",
                )

    def clip(self, period: Period, interval: int) -> Period:
        """Return the part of the period from the first candle of any symbol to the last of any.

        Nothing can happen before and after, and it would count in annualised metrics.
        """
        covered = [
            (start, end)
            for series in self.series.values()
            for start, end in covered_periods(series, interval)
            if start < period.last and end > period.first
        ]
        if not covered:
            return period
        first, last = min(start for start, _ in covered), max(end for _, end in covered)
        return period._replace(first=max(period.first, first), last=min(period.last, last))


def run_coverage(
    start: int, end: int, interval: int, covered: Mapping[str, Sequence[Span]]
) -> Coverage:
    """Return the coverage of a run between two times (ms), given what each symbol's candles cover."""
    return coverage_of(Clock(start, interval, (end - start) // interval), covered)


def _coverage_and_warnings(
    market: MarketScope, period: Period, interval: int
) -> tuple[dict[str, float], list[SessionWarning]]:
    """Return the coverage of all symbols of the request, and a warning for each one left out."""
    covered = {symbol: covered_spans(series) for symbol, series in market.series.items()}
    coverage = run_coverage(period.first, period.last, interval, covered)
    shares = coverage.shares | dict.fromkeys(market.left_out, 0.0)
    left_out = [
        SessionWarning(
            "NO_CANDLES",
            symbol,
            period.first,
            period.last,
            f"{symbol} has no candles in the whole run: it is left out",
        )
        for symbol in market.left_out
    ]
    return shares, [*left_out, *coverage.warnings]


def candles_within(series: Iterable[Series], interval: int, start: int, end: int) -> int:
    """Return for how many ms between two times one symbol has candles of ``interval``."""
    return sum(
        min(last, end) - max(first, start)
        for first, last in covered_periods(series, interval)
        if first < end and last > start
    )


class CostTerms(NamedTuple):
    """The fees and slippage of a run, unchecked; None means the default of ``SessionConfig``."""

    fee_rate: Any = None
    """A fraction of the notional."""
    fee_model: Any = None
    """A ``FeeModel``."""
    fee_bps: Any = None
    fee_schedule: Sequence[Mapping[str, Any]] | None = None
    slippage_bps: Any = None
    """Fixed, in hundredths of a percent."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``SessionConfig``."""
        terms = {name: value for name, value in self._asdict().items() if value is not None}
        if "slippage_bps" in terms:
            terms["slippage"] = {"model": "fixed_bps", "bps": terms.pop("slippage_bps")}
        return terms


DEFAULT_COSTS: Mapping[JobOrigin, CostTerms] = {
    "jobs": CostTerms(fee_model="fixed_bps"),
    "execute": CostTerms(),
    "backtests": CostTerms(fee_rate=0.0005, slippage_bps=5),
}
"""The costs of an API's runs where the request names none; those of ``runs`` name all."""


def plan_run(
    strategy: Strategy,
    market: MarketScope,
    period: Period,
    interval: int,
    starting_balance: Any,
    costs: CostTerms,
    margin: MarginTerms = _DEFAULT_MARGIN,
    **terms: Any,
) -> RunSpec:
    """Return a run, checked; ``terms`` are further fields of its spec.

    Raises ``InvalidParameter``.
    """
    names, is_perp = market.names, market.market_type == "perp"
    try:
        strategy.require_market_type(market.market_type)
    except InvalidParameter as refusal:
        raise with_field_names(refusal, names.strategy, within=names.strategy_within) from None
    timeframe = interval if strategy.timeframe is None else parse_interval(strategy.timeframe)
    market.require_whole(period, timeframe)
    currency = market.currency()
    config: dict[str, Any] = {} if currency is None else {"currency": currency}
    config |= margin.on_perpetuals() if is_perp else margin.on_spot(names.leverage)
    coverage, warnings = _coverage_and_warnings(market, period, interval)
    spec = RunSpec(
        strategy=strategy.content,
        exchange=market.exchange,
        pairs=market.symbols,
        start_time=period.first,
        end_time=period.last,
        interval=interval,
        starting_balance=starting_balance,
        config=config | costs.arguments(),
        history=strategy.history(interval),
        warnings=warnings,
        coverage=coverage,
        **terms,
    )
    try:
        session = session_config(spec)
    except InvalidParameter as refusal:
        raise with_field_names(refusal, names.session) from None
    if session.margin is not None:
        settings = session.margin.settings()
        config |= {"leverage": settings.get("leverage", 1)}
    config |= session.costs.fees.settings()
    if costs.slippage_bps is not None:
        config["slippage"] = session.costs.slippage_settings()
    balance = format_decimal(session.starting_balance)
    return msgspec.structs.replace(spec, starting_balance=balance, config=config)


def compile_for(
    content: Mapping[str, Any], scope: Mapping[str, Any], names: FieldNames
) -> Strategy:
    """Compile a strategy for the ``timeframe`` and ``symbols`` of ``scope``.

    Raises ``InvalidParameter`` naming the field as the API does.
    """
    try:
        return compile_strategy({**content, **scope})
    except InvalidParameter as refusal:
        raise with_field_names(refusal, names.strategy, within=names.strategy_within) from None


def _require_one_kind(symbols: Sequence[str], field: str) -> None:
    """Raise ``InvalidParameter`` for spot pairs and perpetuals in one run."""
    kinds = {is_perpetual(symbol): symbol for symbol in symbols}
    if len(kinds) > 1:
        raise InvalidParameter(
            field,
            f"has {kinds[False]}, a spot pair, and {kinds[True]}, a perpetual; a run trades one kind",
        )


def require_one_price(strategy: Strategy, market: MarketScope) -> None:
    """Raise ``InvalidParameter`` for several symbols with a strategy that names prices of one."""
    template = TEMPLATES.get(strategy.content.get("template", ""))
    names_prices = strategy.content.get("grid") or (template and template.is_of_one_symbol)
    if len(market.symbols) > 1 and names_prices:
        raise InvalidParameter(
            market.names.symbols,
            "must contain exactly one symbol, because this strategy names absolute prices",
        )


def _nearest(series: Sequence[Series], interval: int, period: Period, catalogue: str) -> str:
    """Return the end of a message: the nearest candles before and after a period without any."""
    spans = covered_periods(series, interval)
    before = [span for span in spans if span[1] <= period.first][-1:]
    after = [span for span in spans if span[0] >= period.last][:1]
    if not before + after:
        return f"; {catalogue} lists the candles that are available"
    return ", but " + " and ".join(
        f"from {format_time(start)} to {format_time(end)}" for start, end in before + after
    )


def _last_part(field: str) -> str:
    """Return a field's name within its object."""
    return field.rpartition(".")[2]
