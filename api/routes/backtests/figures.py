"""The figures of a backtest, by flat keys such as ``perf_cagr`` and as structured metrics.

Proportions are fractions (0.25 is 25 %); drawdown, VaR and CVaR are losses, as positive numbers.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.api.schemas.fields import NUMBER_PATTERN
from candlestep.api.schemas.figures import FigureField, as_number, project, project_margin
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
_MARGIN = "margin_"
"""The prefix of the flat keys of what only perpetuals have."""


FIELDS = (
    FigureField("total_return", "total_return"),
    FigureField("bars_in_market", "candles_in_market"),
    FigureField("perf_cagr", "cagr"),
    FigureField("perf_sharpe_ratio", "sharpe_ratio"),
    FigureField("perf_sortino_ratio", "sortino_ratio"),
    FigureField("perf_calmar_ratio", "calmar_ratio"),
    FigureField("risk_max_drawdown", "max_drawdown_pct", "fraction"),
    FigureField("risk_max_drawdown_duration", "max_drawdown_duration_days"),
    FigureField("risk_var_95", "var_95"),
    FigureField("risk_cvar_95", "cvar_95"),
    FigureField("risk_var_99", "var_99"),
    FigureField("risk_cvar_99", "cvar_99"),
    FigureField("risk_volatility_annualised", "volatility"),
    FigureField("trade_total_trades", "closed_trades"),
    FigureField("trade_win_rate", "win_rate", "fraction"),
    FigureField("trade_profit_factor", "profit_factor"),
    FigureField("trade_avg_win", "avg_win"),
    FigureField("trade_avg_loss", "avg_loss"),
    FigureField("trade_expectancy", "expectancy"),
    FigureField("trade_turnover_annualised", "turnover"),
)
"""The figures of a backtest, by their flat keys."""

HIGHER_IS_BETTER = {field.key: field.figure.higher_is_better for field in FIELDS}
"""By flat key; None where neither direction is better."""
RANKABLE = [key for key, higher in HIGHER_IS_BETTER.items() if higher is not None]
"""The flat keys that runs can be ranked by."""

_COUNTS = {field.key for field in FIELDS if field.figure.unit in ("count", "days")}
_GROUPS = {"perf": "performance", "risk": "risk", "trade": "trading"}
"""The parts of the structured metrics, by the prefix of flat keys."""


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
    """Figures of the closed trades; averages and expectancy in currency, after fees."""

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
    """Return all figures of a run by their flat keys; of perpetuals also ``margin_…``."""
    margin = project_margin(summary, as_number)
    own = {f"{_MARGIN}{key}": value for key, value in margin.items()}
    return project(FIELDS, summary, as_number) | own


def structured_metrics(flat: Mapping[str, Any]) -> StructuredMetrics:
    """Return flat figures by what they are about, None where one is missing."""
    tree: dict[str, Any] = {group: {} for group in _GROUPS.values()}
    for key in HIGHER_IS_BETTER:
        prefix, _, name = key.partition("_")
        if prefix in _GROUPS:
            tree[_GROUPS[prefix]][name] = flat.get(key)
        else:
            tree[key] = flat.get(key)
    return msgspec.convert(tree, StructuredMetrics)


def set_metrics(metrics: Mapping[str, Any]) -> Flat:
    """Check figures that are set by hand; raise ``InvalidParameter``.

    Next to the known figures there may be others, and ``error``, a text.
    """
    if len(metrics) > MOST_SET:
        raise InvalidParameter("metrics", f"may have at most {MOST_SET} members")
    return {key: _checked(key, value) for key, value in metrics.items()}


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
