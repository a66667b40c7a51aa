"""The view of a session: running, ended, or replayed from a recording."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from candlestep.api.schemas.account import PositionResponse
from candlestep.api.schemas.fields import money
from candlestep.api.schemas.orders import OrderResponse, TradeResponse
from candlestep.api.schemas.sessions import progress
from candlestep.api.views.view import (
    MARGIN_NAMES,
    METRIC_NAMES,
    NOTHING,
    PAGE_ROWS,
    Call,
    Column,
    Download,
    Figure,
    View,
    ViewTable,
    brief_figure,
    duration_text,
    figures_of,
    label_of,
    month_rows,
    page_of,
    period_text,
    value_of,
)
from candlestep.data.records.sessions import SessionRecord
from candlestep.sandbox import Fill, Order, Results, Session, format_time
from candlestep.sandbox.market.frames import Table, plain_fields
from candlestep.sandbox.performance.drawdowns import DrawdownPeriod
from candlestep.sandbox.performance.figures import FIGURES
from candlestep.sandbox.performance.trading_record import TradingRecord

API = "/api/v1/backtest"

_HEADLINE = (
    "final_equity", "total_pnl", "roi_pct", "sharpe_ratio", "max_drawdown_pct", "win_rate",
    "total_trades", "total_fees",
)  # fmt: skip
_MARGIN_HEADLINE = ("total_funding", "liquidations")
"""The figures that follow on perpetuals."""
_AROUND = 3_600_000
"""The time before and after a fill that a click on its row shows, in ms."""

Pages = Mapping[str, int]
"""The page of each table, from 1, by its key."""


def session_view(
    session: Session, trading: TradingRecord, record: SessionRecord | None, pages: Pages
) -> View:
    """Return the view of a started session. Linear in its orders and candles.

    ``record`` is that of a session of a server; None for one of a recording.
    """
    results = session.results()
    sources = (results, results.metrics)
    clock = session.config.clock
    view = View(
        kind="recording" if record is None else "session",
        id="" if record is None else record.session_id,
        title=title_of(record),
        status=session.status,
        subtitle=" · ".join(
            [
                _pairs_text(session.market.symbols),
                period_text(clock.start, clock.end, clock.interval),
            ]
        ),
        symbols=session.market.symbols,
        progress_pct=progress(session.step_number, session.total_steps),
        progress_text=f"step {session.step_number:,} of {session.total_steps:,}"
        f" · {format_time(session.time)}",
        is_live=session.status == "running" and record is not None,
        step=session.step_number,
        headline=[
            brief_figure(name, value_of(name, sources))
            for name in (*_HEADLINE, *(() if results.liquidations is None else _MARGIN_HEADLINE))
        ],
        metrics=figures_of(
            METRIC_NAMES if results.liquidations is None else (*METRIC_NAMES, *MARGIN_NAMES),
            sources,
        ),
        configuration=_configuration(session, record),
        warnings=[warning.message for warning in results.warnings],
        months=month_rows(trading.monthly_returns()),
        tables=[
            table(session, trading, results, pages)
            for table in (
                *_TABLES,
                *(_PERPETUAL_TABLES if session.config.market_type == "perp" else ()),
            )
        ],
        make_chart=trading.chart,
        curve=lambda: trading.curve,
        figures={name: value_of(name, sources) for name in FIGURES},
    )
    if record is not None:
        base = f"{API}/{record.session_id}"
        view.figure_path = f"{base}/figure.json"
        view.follow_path = f"/sessions/{record.session_id}/state"
        view.calls = _calls(base, session.status != "running")
        view.downloads = _downloads(record.session_id, base)
    return view


def unstarted_view(record: SessionRecord) -> View:
    """Return the view of a session that has not been started, or has failed."""
    problem = "This session has not been started: it has no fills and no equity yet."
    if record.status == "failed":
        problem = f"This session has failed: {record.error}."
    return View(
        kind="session",
        id=record.session_id,
        title=title_of(record),
        status=record.status,
        subtitle=" · ".join(
            [
                _pairs_text(record.pairs),
                period_text(record.start_time, record.end_time, record.interval),
            ]
        ),
        progress_pct=progress(record.current_step, record.total_steps),
        progress_text=f"step {record.current_step:,} of {record.total_steps:,}",
        problem=problem,
        configuration=_stored_configuration(record),
        calls=[Call("status", f"{API}/{record.session_id}/status")],
    )


def stored_view(record: SessionRecord, reason: str) -> View:
    """Return the view of a session that cannot be replayed: what is stored of its results."""
    view = unstarted_view(record)
    view.problem = f"The session cannot be replayed, so there is no chart: {reason}"
    view.headline = [
        brief_figure(name, getattr(record, name)) for name in _HEADLINE if hasattr(record, name)
    ]
    view.figures = {name: getattr(record, name, None) for name in FIGURES}
    return view


def title_of(record: SessionRecord | None) -> str:
    """Return the label of a session, or what stands for it."""
    if record is None:
        return "Recording"
    return record.strategy_label or f"Session {record.session_id[-8:]}"


def _pairs_text(symbols: Sequence[str]) -> str:
    shown = ", ".join(symbols[:6])
    return f"{shown} and {len(symbols) - 6} more" if len(symbols) > 6 else shown


def _configuration(session: Session, record: SessionRecord | None) -> list[Figure]:
    if record is not None:
        return _stored_configuration(record)
    config = session.config
    return [
        Figure("Starting balance", f"{money(config.starting_balance)} {config.currency}"),
        Figure("Trigger", config.trigger),
        Figure("Liquidate at end", str(config.liquidate_at_end).lower()),
    ]


def _stored_configuration(record: SessionRecord) -> list[Figure]:
    entries = {
        "Session": record.session_id,
        "Agent": record.agent_id,
        "Exchange": record.exchange,
        "Pairs": ", ".join(record.pairs),
        "Starting balance": money(record.starting_balance),
        "Import": NOTHING if record.import_number is None else str(record.import_number),
        "Created": format_time(record.created_at),
        "Started": NOTHING if record.started_at is None else format_time(record.started_at),
        "Ended": NOTHING if record.completed_at is None else format_time(record.completed_at),
    }
    entries |= {label_of(name): _plain(value) for name, value in record.config.items()}
    entries |= {
        label_of(name): value for name, value in record.risk_profile.items() if value is not None
    }
    return [Figure(name, text) for name, text in entries.items()]


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return f"{len(value)} entries"
    return NOTHING if value is None else str(value)


# The tables of a session. A new one is a function here, and its name in ``_TABLES``.


_POSITION_COLUMNS = (
    "symbol", "quantity", "avg_entry_price", "cost_basis", "current_price", "market_value",
    "unrealized_pnl", "realized_pnl",
)  # fmt: skip
_PERPETUAL_POSITION_COLUMNS = (
    "symbol", "side", "quantity", "entry_price", "mark_price", "notional", "unrealized_pnl",
    "realized_pnl", "leverage", "margin_mode", "isolated_wallet", "maintenance_margin",
    "liquidation_price", "funding_paid",
)  # fmt: skip
_POSITION_TEXTS = ("symbol", "side", "margin_mode")


def _positions(
    session: Session, trading: TradingRecord, results: Results, pages: Pages
) -> ViewTable:
    positions = [PositionResponse.of(position) for position in session.positions()]
    is_perpetual = session.config.market_type == "perp"
    names = _PERPETUAL_POSITION_COLUMNS if is_perpetual else _POSITION_COLUMNS
    return ViewTable(
        "positions",
        "Open positions",
        [Column(label_of(name), name not in _POSITION_TEXTS) for name in names],
        [[_cell(getattr(position, name)) for name in names] for position in positions],
        len(positions),
        empty="No position is open.",
    )


def _by_pair(session: Session, trading: TradingRecord, results: Results, pages: Pages) -> ViewTable:
    fees = {
        pair.symbol: sum(
            (fill.fee for fill in trading.fills if fill.symbol == pair.symbol),
            start=results.total_fees * 0,
        )
        for pair in results.by_pair
    }
    rows = [
        [
            pair.symbol,
            str(pair.trades),
            NOTHING if pair.win_rate is None else f"{pair.win_rate:.2f}",
            money(pair.net_pnl),
            money(fees[pair.symbol]),
            f"{results.coverage.get(pair.symbol, 0.0) * 100:.2f}",
        ]
        for pair in results.by_pair
    ]
    columns = ("Symbol", "Fills", "Win rate, %", "Net PnL", "Fees", "Steps with candles, %")
    return ViewTable(
        "pairs",
        "By pair",
        [Column(name, name != "Symbol") for name in columns],
        rows,
        len(rows),
        empty="Nothing has been traded.",
    )


def _drawdowns(
    session: Session, trading: TradingRecord, results: Results, pages: Pages
) -> ViewTable:
    periods = trading.worst_drawdowns()
    columns = ("Depth, %", "Amount", "Peak", "Trough", "Recovery", "Duration")
    return ViewTable(
        "drawdowns",
        "Worst drawdowns",
        [Column(name, place < 2) for place, name in enumerate(columns)],
        [_drawdown_row(period) for period in periods],
        len(periods),
        spans=[(period.peak_time, period.recovery_time or trading.time) for period in periods],
        empty="Equity has never been below its peak.",
    )


def _drawdown_row(period: DrawdownPeriod) -> list[str]:
    return [
        f"{period.depth_pct:.2f}",
        f"{period.amount:,.2f}",
        format_time(period.peak_time),
        format_time(period.trough_time),
        "not yet" if period.recovery_time is None else format_time(period.recovery_time),
        duration_text(period.duration),
    ]


_TRADE_COLUMNS = (
    "id", "simulated_at", "symbol", "side", "type", "quantity", "price", "quote_amount", "fee",
    "slippage_pct", "realized_pnl", "order_id",
)  # fmt: skip
_ORDER_COLUMNS = (
    "id", "created_at", "symbol", "side", "type", "quantity", "price", "trigger_price", "status",
    "reason", "executed_price", "closed_at", "client_order_id",
)  # fmt: skip
_TEXTS = (
    "symbol", "side", "type", "status", "reason", "simulated_at", "created_at", "closed_at",
    "client_order_id",
)  # fmt: skip
_COLUMN_LABELS = {
    "id": "#", "simulated_at": "Time", "created_at": "Placed", "closed_at": "Closed",
    "quote_amount": "Amount", "slippage_pct": "Slippage, %", "realized_pnl": "PnL",
    "trigger_price": "Trigger", "executed_price": "Executed at", "client_order_id": "Client id",
    "order_id": "Order",
}  # fmt: skip


def _trades(session: Session, trading: TradingRecord, results: Results, pages: Pages) -> ViewTable:
    page = pages.get("trades", 1)
    fills: Sequence[Fill] = page_of(trading.fills, page)
    answers = [TradeResponse.of(fill) for fill in fills]
    return ViewTable(
        "trades",
        "Fills",
        _columns(_TRADE_COLUMNS),
        [[_cell(getattr(answer, name)) for name in _TRADE_COLUMNS] for answer in answers],
        len(trading.fills),
        page,
        [(fill.time - _AROUND, fill.time + _AROUND) for fill in fills],
        "Nothing has been filled.",
    )


def _orders(session: Session, trading: TradingRecord, results: Results, pages: Pages) -> ViewTable:
    page = pages.get("orders", 1)
    orders: Sequence[Order] = page_of(trading.orders, page)
    answers = [OrderResponse.of(order) for order in orders]
    names = [
        name
        for name in _ORDER_COLUMNS
        if name != "client_order_id" or any(order.client_order_id for order in trading.orders)
    ]
    columns = _columns(names)
    rows = [[_cell(getattr(answer, name)) for name in names] for answer in answers]
    terms = [_order_terms(order) for order in orders]
    if any(terms):
        columns.append(Column("Terms", False))
        for row, text in zip(rows, terms, strict=True):
            row.append(text)
    return ViewTable(
        "orders",
        "Orders",
        columns,
        rows,
        len(trading.orders),
        page,
        [
            (order.created_at - _AROUND, (order.closed_at or trading.time) + _AROUND)
            for order in orders
        ],
        "No order has been placed.",
    )


def _order_terms(order: Order) -> str:
    """Return the terms of an order that have no column of their own; empty for most orders."""
    amounts = {
        "trails %s %%": order.trail_percent,
        "trails %s": order.trail_amount,
        "from %s": order.activation_price,
        "for %s": order.quote_amount,
        "stop %s": order.stop_loss,
        "target %s": order.take_profit,
    }
    terms: list[str] = [] if order.time_in_force == "gtc" else [order.time_in_force]
    terms += ["post only"] if order.post_only else []
    terms += [text % money(amount) for text, amount in amounts.items() if amount is not None]
    terms += [] if order.parent_id is None else [f"guards #{order.parent_id}"]
    terms += [] if order.list_id is None else [f"pair #{order.list_id}"]
    return ", ".join(terms)


_PLAIN_TEXTS = ("symbol", "side", "time", "mark_source", "margin_mode")


def _funding(session: Session, trading: TradingRecord, results: Results, pages: Pages) -> ViewTable:
    return _struct_table("funding", "Funding", session.funding_payments)


def _liquidations(
    session: Session, trading: TradingRecord, results: Results, pages: Pages
) -> ViewTable:
    return _struct_table("liquidations", "Liquidations", session.liquidations)


def _struct_table(key: str, title: str, rows: Table[Any]) -> ViewTable:
    """Return a table of the latest 100 rows, with a column for each plain field."""
    names = [field.name for field in plain_fields(rows.row_type)]
    names.sort(key=lambda name: name != "time")
    latest = rows[-PAGE_ROWS:]
    cells = [[_plain_cell(name, getattr(row, name)) for name in names] for row in latest]
    columns = [Column(label_of(name), name not in _PLAIN_TEXTS) for name in names]
    spans = [(row.time - _AROUND, row.time + _AROUND) for row in latest]
    return ViewTable(key, title, columns, cells, len(rows), spans=spans)


def _plain_cell(name: str, value: object) -> str:
    if isinstance(value, Decimal):
        return money(value)
    return format_time(value) if name == "time" and isinstance(value, int) else _cell(value)


_TABLES: tuple[Callable[[Session, TradingRecord, Results, Pages], ViewTable], ...] = (
    _positions,
    _by_pair,
    _drawdowns,
    _trades,
    _orders,
)
_PERPETUAL_TABLES = (_funding, _liquidations)


def _columns(names: Sequence[str]) -> list[Column]:
    return [Column(_COLUMN_LABELS.get(name, label_of(name)), name not in _TEXTS) for name in names]


def _cell(value: object) -> str:
    return NOTHING if value is None else str(value)


def _calls(base: str, has_ended: bool) -> list[Call]:
    calls = [
        Call("chart", f"{base}/figure.json"),
        Call("fills", f"{base}/trade/history"),
        Call("orders", f"{base}/trade/orders"),
        Call("positions", f"{base}/account/positions"),
        Call("worst drawdowns", f"{base}/results/drawdowns"),
        Call("monthly returns", f"{base}/results/monthly"),
        Call("what is new", f"{base}/since?step=0"),
    ]
    if has_ended:
        calls.insert(1, Call("metrics", f"{base}/results"))
    return calls


def _downloads(session_id: str, base: str) -> list[Download]:
    files = [("recording", f"{base}/recording"), ("page as a file", f"/sessions/{session_id}/file")]
    files += [
        (f"{what}, {form}", f"/sessions/{session_id}/{what}.{form}")
        for what in ("trades", "equity")
        for form in ("csv", "parquet")
    ]
    return [Download(name, path) for name, path in files]
