"""The texts of a page about one session or run, in the order in which they are shown."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from candlestep.api.schemas.fields import money
from candlestep.sandbox import format_time, interval_name
from candlestep.sandbox.performance.charts import Chart, Curve
from candlestep.sandbox.performance.figures import FIGURES
from candlestep.sandbox.performance.monthly_returns import MonthlyReturn

PAGE_ROWS = 100
"""The rows of a page of a table."""
NOTHING = "–"
"""The text of a missing value."""


class Figure(NamedTuple):
    """A named number as text, and whether it is good, bad or neither."""

    name: str
    text: str
    tone: str = ""
    """``good``, ``bad`` or nothing."""
    exact: str = ""
    """All the digits, where the text has fewer."""


class Column(NamedTuple):
    """A column of a table."""

    name: str
    is_number: bool = False


@dataclass(frozen=True)
class ViewTable:
    """A page of a table; every cell is the text of the API."""

    key: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    total: int
    page: int = 1
    spans: Sequence[tuple[int, int]] = ()
    """For each row, the times (ms) that a click shows in the chart."""
    empty: str = "None yet."
    query: str = ""
    """The rest of the query of its further pages."""

    @property
    def pages(self) -> int:
        """The number of pages, at least 1."""
        return max(1, -(-self.total // PAGE_ROWS))

    @property
    def fractions(self) -> list[int]:
        """The most characters from the point on in each column, so that its numbers can line up."""
        return [
            max((fraction_digits(row[place]) for row in self.rows), default=0)
            if column.is_number
            else 0
            for place, column in enumerate(self.columns)
        ]

    @property
    def first(self) -> int:
        """The number of the first row, from 1; 0 without rows."""
        return (self.page - 1) * PAGE_ROWS + 1 if self.rows else 0


def fraction_digits(text: str) -> int:
    """Return how many characters a number has from its point on."""
    _, point, digits = text.partition(".")
    return len(point + digits)


class MonthCell(NamedTuple):
    """A month in the table of monthly returns."""

    text: str
    tone: str
    strength: float
    """The share of the largest return, from 0 to 1, by which it is coloured."""


class Call(NamedTuple):
    """The request behind a part of a page."""

    part: str
    path: str


class Download(NamedTuple):
    """A file that a page offers."""

    name: str
    path: str


@dataclass
class View:
    """A page about one session, job, backtest, run or recording."""

    kind: str
    id: str
    title: str
    status: str
    subtitle: str
    symbols: Sequence[str] = ()
    progress_pct: str = "100.00"
    progress_text: str = ""
    is_live: bool = False
    follow_path: str | None = None
    """The path from which a page that follows a session reads how far it is."""
    step: int = 0
    problem: str | None = None
    """The reason why there is no more to see."""
    headline: list[Figure] = field(default_factory=list)
    metrics: list[Figure] = field(default_factory=list)
    configuration: list[Figure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    months: list[tuple[str, list[MonthCell], MonthCell]] = field(default_factory=list)
    tables: list[ViewTable] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    downloads: list[Download] = field(default_factory=list)
    figure_path: str | None = None
    """The path from which the pages read the chart."""
    make_chart: Callable[[], Chart] | None = None
    curve: Callable[[], Curve] | None = None
    readings: list[Download] = field(default_factory=list)
    """The readings of a blind session that has ended: as it was shown, and as it was."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Figures by their names in ``FIGURES``, for comparisons."""


def page_of(rows: Sequence[Any], page: int) -> Sequence[Any]:
    """Return the rows of a page, from 1."""
    return rows[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]


def figure_text(name: str, value: Any) -> str:
    """Return a figure of ``FIGURES`` as text, with its unit where that is not plain."""
    if value is None:
        return NOTHING
    unit = FIGURES[name].unit
    if unit == "time":
        return format_time(value)
    if isinstance(value, Decimal):
        return money(value) + (" %" if unit == "percent" else "")
    if unit == "fraction":
        return f"{value * 100:,.2f} %"
    if unit == "percent":
        return f"{value:,.2f} %"
    if unit == "seconds":
        return duration_text(round(value * 1000))
    if unit == "days":
        return f"{value:,} d"
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def brief_text(name: str, value: Any) -> str:
    """Return a figure with two decimals, for tiles and for columns that line up."""
    if isinstance(value, Decimal):
        return f"{value:,.2f}" + (" %" if FIGURES[name].unit == "percent" else "")
    return figure_text(name, value)


def brief_figure(name: str, value: Any) -> Figure:
    """Return a figure in brief, with all digits for who asks."""
    tone = tone_of(value) if name in ("total_pnl", "roi_pct") else ""
    exact = figure_text(name, value) if isinstance(value, Decimal) else ""
    return Figure(figure_label(name), brief_text(name, value), tone, exact)


def figure_label(name: str) -> str:
    """Return the name of a figure in words."""
    return FIGURE_LABELS.get(name, label_of(name))


def figures_of(names: Iterable[str], sources: Sequence[Any]) -> list[Figure]:
    """Return figures by name, each from the first source that has it."""
    return [brief_figure(name, value_of(name, sources)) for name in names]


def value_of(name: str, sources: Sequence[Any]) -> Any:
    """Return a figure from the first source that has it; None if none has."""
    return next((getattr(source, name) for source in sources if hasattr(source, name)), None)


def label_of(name: str) -> str:
    """Return the name of a field in words: ``max_drawdown_pct`` is ``Max drawdown``."""
    words = name.removesuffix("_pct").replace("_", " ").replace("pnl", "PnL")
    return words[:1].upper() + words[1:]


FIGURE_LABELS = {
    "roi_pct": "ROI",
    "cagr": "CAGR",
    "total_pnl": "PnL",
    "total_fees": "Fees",
    "total_trades": "Fills",
    "var_95": "VaR 95 %",
    "var_99": "VaR 99 %",
    "cvar_95": "CVaR 95 %",
    "cvar_99": "CVaR 99 %",
    "avg_win": "Mean win",
    "avg_loss": "Mean loss",
    "max_drawdown_duration_days": "Longest drawdown",
    "returns_grid": "Returns per",
    "mean_trade_seconds": "Mean trade",
    "total_funding": "Funding",
    "total_liquidation_fees": "Liquidation fees",
    "max_leverage_used": "Highest leverage",
}
"""The labels of figures whose names do not say it."""

METRIC_NAMES = (
    "total_return", "cagr", "volatility", "sharpe_ratio", "sortino_ratio", "calmar_ratio",
    "max_drawdown_pct", "max_drawdown_amount", "max_drawdown_duration_days", "var_95", "cvar_95",
    "var_99", "cvar_99", "win_rate", "profit_factor", "expectancy", "avg_win", "avg_loss",
    "best_trade", "worst_trade", "trades_per_day", "turnover", "candles_in_market", "capped_fills",
    "returns_grid", "covered_from", "covered_to",
)  # fmt: skip
"""The figures in the table of metrics."""
MARGIN_NAMES = (
    "total_funding", "liquidations", "total_liquidation_fees", "insurance", "max_leverage_used"
)  # fmt: skip
"""Those that follow on perpetuals."""


def tone_of(value: Any) -> str:
    """Return whether an amount is a gain or a loss."""
    if value is None or value == 0:
        return ""
    return "good" if value > 0 else "bad"


def month_rows(returns: Sequence[MonthlyReturn]) -> list[tuple[str, list[MonthCell], MonthCell]]:
    """Return a row for each year: its months, and the return of the year."""
    largest = max((abs(entry.return_pct or 0.0) for entry in returns), default=0.0) or 1.0
    blank = MonthCell("", "", 0.0)
    rows = []
    for year in dict.fromkeys(entry.month[:4] for entry in returns):
        cells, growth = [blank] * 12, 1.0
        for entry in returns:
            if entry.month[:4] == year and entry.return_pct is not None:
                value = entry.return_pct
                growth *= 1 + value / 100
                share = abs(value) / largest
                cells[int(entry.month[5:]) - 1] = MonthCell(f"{value:+.2f}", tone_of(value), share)
        total = (growth - 1) * 100
        rows.append((year, cells, MonthCell(f"{total:+.2f}", tone_of(total), 0.0)))
    return rows


def duration_text(milliseconds: int) -> str:
    """Return a duration in its two largest units, such as ``3 d 4 h``."""
    units = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000))
    parts: list[str] = []
    for name, length in units:
        count, milliseconds = divmod(milliseconds, length)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"


def period_text(start: int, end: int, interval: int) -> str:
    """Return a period and an interval in words."""
    days = duration_text(end - start)
    return f"{minute_text(start)} – {minute_text(end)} UTC · {days} · {interval_name(interval)}"


def minute_text(time: int) -> str:
    """Return a time (ms) as a date and a minute, in UTC."""
    return format_time(time)[:16].replace("T", " ")
