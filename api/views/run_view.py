"""The view of a run of a strategy: of a job, a backtest, or a run of the runs API."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from candlestep.api.schemas.fields import money
from candlestep.api.views.view import (
    MARGIN_NAMES,
    METRIC_NAMES,
    NOTHING,
    Call,
    Column,
    Figure,
    View,
    ViewTable,
    brief_figure,
    figures_of,
    label_of,
    month_rows,
    page_of,
    period_text,
    value_of,
)
from candlestep.data.records.jobs import JobStatus, RunSpec, RunSummary
from candlestep.data.run_files.columns import EquityColumns
from candlestep.sandbox import ClosedTrade, Market, format_time
from candlestep.sandbox.performance.chart_columns import (
    Range,
    candle_columns,
    fitting_interval,
    gathered_markers,
    thinned,
)
from candlestep.sandbox.performance.charts import Chart, Curve, FillMarker, trading_chart
from candlestep.sandbox.performance.drawdowns import underwater, worst_drawdowns
from candlestep.sandbox.performance.figures import FIGURES
from candlestep.sandbox.performance.metrics import EquitySeries
from candlestep.sandbox.performance.monthly_returns import monthly_returns

_HEADLINE = (
    "final_equity", "total_pnl", "roi_pct", "sharpe_ratio", "max_drawdown_pct", "win_rate",
    "closed_trades", "total_fees",
)  # fmt: skip
_METRICS = (*METRIC_NAMES, "mean_trade_seconds", "signals")
_AROUND = 3_600_000


class StoredRun(NamedTuple):
    """A run with all that is stored of it."""

    kind: str
    """``job``, ``backtest`` or ``run``."""
    id: str
    status: JobStatus
    progress: float
    """From 0 to 1."""
    spec: RunSpec
    summary: RunSummary | None
    error: str | None
    equity: EquityColumns | None
    trades: Sequence[ClosedTrade] | None
    api_path: str
    """The path of the API that describes it."""

    @property
    def currency(self) -> str:
        return str(self.spec.config.get("currency", "quote currency"))


def run_view(run: StoredRun, pages: Mapping[str, int]) -> View:
    """Return the view of a run in any state."""
    spec = run.spec
    view = View(
        kind=run.kind,
        id=run.id,
        title=_title(run),
        status=run.status,
        subtitle=f"{', '.join(spec.pairs)} · "
        + period_text(spec.start_time, spec.end_time, spec.interval),
        symbols=spec.pairs,
        progress_pct=f"{run.progress * 100:.2f}",
        is_live=run.status in ("queued", "running"),
        problem=_problem(run),
        configuration=_configuration(run),
        calls=[Call(run.kind, run.api_path)],
    )
    summary = run.summary
    if summary is not None:
        sources = (summary, summary.metrics, summary.margin)
        view.headline = [brief_figure(name, value_of(name, sources)) for name in _HEADLINE]
        names = _METRICS if summary.margin is None else (*_METRICS, *MARGIN_NAMES)
        view.metrics = figures_of(names, sources)
        view.figures = {name: value_of(name, sources) for name in FIGURES}
        view.tables.append(_by_pair(summary))
    if run.equity is not None and len(run.equity.time):
        series = EquitySeries(run.equity.time, run.equity.equity)
        balance = float(spec.starting_balance)
        view.months = month_rows(monthly_returns(series, balance))
        view.tables.append(_drawdowns(series, balance))
        view.curve = lambda: run_curve(run)
        view.figure_path = f"/{run.kind}s/{run.id}/figure.json"
    if run.trades is not None:
        view.tables.append(_trades(run.trades, pages.get("trades", 1)))
    return view


def run_curve(run: StoredRun) -> Curve:
    """Return the equity and drawdown of a run; its exposure is not stored."""
    assert run.equity is not None
    series = EquitySeries(run.equity.time, run.equity.equity)
    drawdown = underwater(series, float(run.spec.starting_balance))
    return Curve(run.equity.time, run.equity.equity, drawdown)


def run_chart(
    run: StoredRun,
    market: Market | None,
    symbol: str | None = None,
    start: int | None = None,
    end: int | None = None,
) -> Chart:
    """Return the chart of a run: candles, if there are any, with its closed trades, and equity.

    Raises ``SymbolNotFound``.
    """
    spec = run.spec
    shown = Range(
        spec.start_time if start is None else start, spec.end_time if end is None else end
    )
    curve = run_curve(run)
    candles, markers = None, []
    if market is not None:
        series = market.candles_of(symbol or _main_symbol(run, market))
        interval = fitting_interval(series, shown, spec.interval)
        candles = candle_columns(series, shown, int(curve.time[-1]), interval)
        markers = gathered_markers(_markers(run, series.symbol), shown, interval)
    return trading_chart(candles, markers, [], thinned(curve, shown), run.currency)


def _main_symbol(run: StoredRun, market: Market) -> str:
    """Return the symbol with the most closed trades, or else the first of the market."""
    counts = dict.fromkeys(market.symbols, 0)
    for trade in run.trades or ():
        if trade.symbol in counts:
            counts[trade.symbol] += 1
    return max(counts, key=lambda symbol: counts[symbol])


def _markers(run: StoredRun, symbol: str) -> list[FillMarker]:
    """Return a marker for the entry and for the exit of each closed trade."""
    markers = []
    for trade in run.trades or ():
        if trade.symbol == symbol:
            exit_side = "sell" if trade.side == "buy" else "buy"
            quantity = float(trade.quantity)
            markers += [
                FillMarker(
                    trade.entry_time, trade.side, float(trade.entry_price), quantity, None, 1
                ),
                FillMarker(
                    trade.exit_time,
                    exit_side,
                    float(trade.exit_price),
                    quantity,
                    float(trade.pnl),
                    1,
                ),
            ]
    return sorted(markers, key=lambda marker: marker.time)


def _title(run: StoredRun) -> str:
    strategy = run.spec.strategy
    name = strategy.get("template") or strategy.get("name") or run.kind
    parameters = run.spec.overrides or strategy.get("parameters") or strategy.get("params") or {}
    chosen = {key: value for key, value in dict(parameters).items() if value is not None}
    text = ", ".join(f"{key} {value}" for key, value in chosen.items())
    return f"{name} {f'({text})' if text else ''}".strip()


def _problem(run: StoredRun) -> str | None:
    if run.error is not None:
        return f"The {run.kind} has no result: {run.error}."
    if run.summary is None:
        return f"The {run.kind} is {run.status}: its result comes when it has ended."
    if run.equity is None:
        return "Its equity and trades are no longer stored: the metrics are all there is."
    return None


def _configuration(run: StoredRun) -> list[Figure]:
    spec = run.spec
    entries = {
        "Id": run.id,
        "Exchange": spec.exchange,
        "Engine": spec.engine,
        "Starting balance": spec.starting_balance,
        "From": format_time(spec.start_time),
        "To": format_time(spec.end_time),
        "Import": NOTHING if spec.import_number is None else str(spec.import_number),
        **{label_of(name): str(value) for name, value in spec.overrides.items()},
        **{label_of(name): _plain(value) for name, value in spec.config.items()},
    }
    return [Figure(name, text) for name, text in entries.items()]


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    return NOTHING if value is None else str(value)


def _by_pair(summary: RunSummary) -> ViewTable:
    rows = [
        [
            pair.symbol,
            str(pair.trades),
            NOTHING if pair.win_rate is None else f"{pair.win_rate:.2f}",
            money(pair.net_pnl),
        ]
        for pair in summary.by_pair
    ]
    columns = ("Symbol", "Fills", "Win rate, %", "Net PnL")
    return ViewTable(
        "pairs",
        "By pair",
        [Column(name, name != "Symbol") for name in columns],
        rows,
        len(rows),
        empty="Nothing has been traded.",
    )


def _drawdowns(series: EquitySeries, balance: float) -> ViewTable:
    periods = worst_drawdowns(series, balance)
    end = int(np.max(series.time))
    return ViewTable(
        "drawdowns",
        "Worst drawdowns",
        [
            Column("Depth, %", True), Column("Amount", True), Column("Peak"), Column("Trough"),
            Column("Recovery"),
        ],
        [
            [
                f"{period.depth_pct:.2f}",
                f"{period.amount:,.2f}",
                format_time(period.peak_time),
                format_time(period.trough_time),
                "not yet" if period.recovery_time is None else format_time(period.recovery_time),
            ]
            for period in periods
        ],
        len(periods),
        spans=[(period.peak_time, period.recovery_time or end) for period in periods],
        empty="Equity has never been below its peak.",
    )  # fmt: skip


def _trades(trades: Sequence[ClosedTrade], page: int) -> ViewTable:
    shown = page_of(trades, page)
    columns = ("#", "Symbol", "Side", "Quantity", "Entry", "at", "Exit", "at", "PnL", "Fee", "%")
    texts = ("Symbol", "Side", "Entry", "Exit")
    return ViewTable(
        "trades",
        "Closed trades",
        [Column(name, name not in texts) for name in columns],
        [
            [
                str(trade.fill_id),
                trade.symbol,
                trade.side,
                money(trade.quantity),
                format_time(trade.entry_time),
                money(trade.entry_price),
                format_time(trade.exit_time),
                money(trade.exit_price),
                money(trade.pnl),
                money(trade.fee),
                NOTHING if trade.return_pct is None else f"{trade.return_pct:.4f}",
            ]
            for trade in shown
        ],
        len(trades),
        page,
        [(trade.entry_time - _AROUND, trade.exit_time + _AROUND) for trade in shown],
        "No trade has been closed.",
    )
