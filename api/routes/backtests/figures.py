"""The figures of a backtest: one table says how each is called, where it comes from, and whether
more of it is better.

Proportions are fractions (0.25 is 25 %); drawdown, VaR and CVaR are losses, as positive numbers.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from candlestep.api.schemas.fields import NUMBER_PATTERN
from candlestep.data.records.jobs import RunSummary
from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.money import parse_number

Number = float | int
Flat = dict[str, Annotated[float | int | str | None, Meta(examples=[1.84])]]
"""Figures by their flat keys, null where one is undefined; or ``error``, a text."""

MOST_SET = 200
"""Figures that may be set by hand."""
_LONGEST_KEY = 64
_LARGEST = 10**15


class Figure(NamedTuple):
    """One figure of a run that was completed."""

    key: str
    path: tuple[str, ...]
    """Of it in the structured metrics."""
    value: Callable[[RunSummary], Number | Decimal | None]
    higher_is_better: bool | None = None
    """None: neither more nor less of it is better."""
    is_count: bool = False


def _percent(value: float | None) -> float | None:
    return None if value is None else value / 100


FIGURES = (
    Figure("total_return", ("total_return",), lambda run: run.metrics.total_return, True),
    Figure(
        "bars_in_market", ("bars_in_market",), lambda run: run.metrics.candles_in_market, True, True
    ),
    Figure("perf_cagr", ("performance", "cagr"), lambda run: run.metrics.cagr, True),
    Figure(
        "perf_sharpe_ratio", ("performance", "sharpe_ratio"),
        lambda run: run.metrics.sharpe_ratio, True,
    ),
    Figure(
        "perf_sortino_ratio", ("performance", "sortino_ratio"),
        lambda run: run.metrics.sortino_ratio, True,
    ),
    Figure(
        "perf_calmar_ratio", ("performance", "calmar_ratio"),
        lambda run: run.metrics.calmar_ratio, True,
    ),
    Figure(
        "risk_max_drawdown", ("risk", "max_drawdown"),
        lambda run: _percent(run.metrics.max_drawdown_pct), False,
    ),
    Figure(
        "risk_max_drawdown_duration", ("risk", "max_drawdown_duration"),
        lambda run: run.metrics.max_drawdown_duration_days, False, True,
    ),
    Figure("risk_var_95", ("risk", "var_95"), lambda run: run.metrics.var_95, False),
    Figure("risk_cvar_95", ("risk", "cvar_95"), lambda run: run.metrics.cvar_95, False),
    Figure("risk_var_99", ("risk", "var_99"), lambda run: run.metrics.var_99, False),
    Figure("risk_cvar_99", ("risk", "cvar_99"), lambda run: run.metrics.cvar_99, False),
    Figure(
        "risk_volatility_annualised", ("risk", "volatility_annualised"),
        lambda run: run.metrics.volatility, False,
    ),
    Figure(
        "trade_total_trades", ("trading", "total_trades"), lambda run: run.closed_trades,
        is_count=True,
    ),
    Figure(
        "trade_win_rate", ("trading", "win_rate"), lambda run: _percent(run.metrics.win_rate), True
    ),
    Figure(
        "trade_profit_factor", ("trading", "profit_factor"),
        lambda run: run.metrics.profit_factor, True,
    ),
    Figure("trade_avg_win", ("trading", "avg_win"), lambda run: run.metrics.avg_win),
    Figure("trade_avg_loss", ("trading", "avg_loss"), lambda run: run.metrics.avg_loss),
    Figure(
        "trade_expectancy", ("trading", "expectancy"), lambda run: run.metrics.expectancy, True
    ),
    Figure(
        "trade_turnover_annualised", ("trading", "turnover_annualised"),
        lambda run: run.metrics.turnover,
    ),
)  # fmt: skip

HIGHER_IS_BETTER: dict[str, bool | None] = {each.key: each.higher_is_better for each in FIGURES}
"""Of each flat key."""
RANKABLE = [key for key, higher in HIGHER_IS_BETTER.items() if higher is not None]
"""The flat keys of which more, or less, is better."""
_COUNTS = {each.key for each in FIGURES if each.is_count}


class PerformanceMetrics(msgspec.Struct, frozen=True):
    """Annualised."""

    cagr: float | None
    sharpe_ratio: float | None
    sortino_ratio: float | None
    calmar_ratio: float | None


class RiskMetrics(msgspec.Struct, frozen=True):
    """Losses, as positive fractions; the duration in days under water."""

    max_drawdown: float | None
    max_drawdown_duration: int | None
    var_95: float | None
    cvar_95: float | None
    var_99: float | None
    cvar_99: float | None
    volatility_annualised: float | None


class TradingMetrics(msgspec.Struct, frozen=True):
    """Of the closed trades; averages and expectancy in currency, after fees."""

    total_trades: int | None
    win_rate: float | None
    profit_factor: float | None
    avg_win: float | None
    avg_loss: float | None
    expectancy: float | None
    turnover_annualised: float | None


class StructuredMetrics(msgspec.Struct, frozen=True):
    """The flat metrics, by what they are about."""

    total_return: float | None
    bars_in_market: int | None
    performance: PerformanceMetrics
    risk: RiskMetrics
    trading: TradingMetrics


def flat_metrics(summary: RunSummary) -> Flat:
    """All figures of a run by their flat keys."""
    return {each.key: _number(each.value(summary)) for each in FIGURES}


def structured_metrics(flat: Mapping[str, Any]) -> StructuredMetrics:
    """Flat figures by what they are about; what is not among them is None."""
    tree: dict[str, Any] = {}
    for each in FIGURES:
        *within, name = each.path
        place = tree
        for part in within:
            place = place.setdefault(part, {})
        place[name] = flat.get(each.key)
    return msgspec.convert(tree, StructuredMetrics)


def set_metrics(given: Mapping[str, Any]) -> Flat:
    """Figures that are set by hand, checked; raises ``InvalidParameter``.

    Beside the known ones there may be others, and ``error``, a text.
    """
    if len(given) > MOST_SET:
        raise InvalidParameter("metrics", f"may have at most {MOST_SET} members")
    return {key: _checked(key, value) for key, value in given.items()}


SET_SCHEMA = {
    "type": "object",
    "maxProperties": MOST_SET,
    "propertyNames": {"maxLength": _LONGEST_KEY},
    "additionalProperties": {
        "anyOf": [{"type": ["number", "null"]}, {"type": "string", "pattern": NUMBER_PATTERN}]
    },
    "properties": {"error": {"type": ["string", "null"], "maxLength": 2000}},
}


def _checked(key: str, value: Any) -> Number | str | None:
    field = f"metrics.{abbreviate(key)}"
    if len(key) > _LONGEST_KEY:
        raise InvalidParameter(field, f"a key has at most {_LONGEST_KEY} characters")
    if value is None:
        return None
    if key == "error":
        if not isinstance(value, str) or len(value) > 2000:
            raise InvalidParameter(field, "must be a text of at most 2000 characters")
        return value
    number = parse_number(field, value)
    if abs(number) > _LARGEST:
        raise InvalidParameter(field, f"must be from -{_LARGEST} to {_LARGEST}")
    if key in _COUNTS and (number != int(number) or number < 0):
        raise InvalidParameter(field, f"must be a whole number from 0 on, got {abbreviate(value)}")
    return int(number) if key in _COUNTS else float(number)


def _number(value: Number | Decimal | None) -> Number | None:
    """A figure as a number of JSON."""
    return float(value) if isinstance(value, Decimal) else value
