"""Results of sessions: saved in one transaction, and read back exactly."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from candlestep.data.clock import now
from candlestep.data.records.margin_results import MarginRecord, save_margin
from candlestep.data.records.sessions import get_session
from candlestep.data.store.database import Store
from candlestep.data.store.rows import amount_column, exact_text, text_column
from candlestep.data.store.sql import quote_text
from candlestep.sandbox import (
    EquityCurve,
    Fill,
    InvalidParameter,
    Metrics,
    PairResult,
    Results,
    Snapshot,
)
from candlestep.sandbox.performance.figures import FIGURES

LOWER_IS_BETTER = frozenset(
    name for name, figure in FIGURES.items() if figure.higher_is_better is False
)
"""The figures that are better the lower they are; all others are better the higher."""

_SUMMARY = ("final_equity", "total_pnl", "roi_pct", "total_trades", "total_fees")
_METRICS = Metrics.__struct_fields__
_TIMES = ("covered_from", "covered_to")
_UNRANKED = (
    "returns_grid",
    "returns_count",
    "returns_skewness",
    "returns_kurtosis",
    "capped_fills",
    *_TIMES,
)
"""Metrics that do not rank sessions."""

RANKED = (*_SUMMARY, *(m for m in _METRICS if m not in (*_SUMMARY, *_UNRANKED)))
"""The figures by which the best session can be selected."""

_AMOUNT_COLUMNS = tuple(name for name in Snapshot.__struct_fields__ if name != "time")
_TRADE_COLUMNS = (
    "trade_id, order_id, symbol, side, type, quantity, price, quote_amount, fee, slippage,"
    " realized_pnl, epoch_ms(simulated_at), closed_pnl, closed_quantity, is_liquidation"
)
_TRADE_DECIMALS = {
    "quantity": 8, "price": 16, "quote_amount": 8, "fee": 8, "slippage": 16, "realized_pnl": 8,
    "closed_pnl": 8, "closed_quantity": 8,
}  # fmt: skip


class Best(NamedTuple):
    """The session with the best value of a figure."""

    session_id: str
    strategy_label: str
    value: float | int | Decimal


def save_results(
    store: Store,
    account_id: str,
    session_id: str,
    *,
    results: Results,
    current_step: int,
    fills: Sequence[Fill],
    equity: EquityCurve,
    margin: MarginRecord | None = None,
) -> None:
    """Save the results of a session in one transaction, replacing those that were saved before.

    ``margin`` is what only a session on perpetuals has. Raises ``SessionNotFound``, or ``StorageUnavailable`` with nothing changed; then save again.
    """
    trades = _trade_columns(fills)
    units = {name: getattr(equity, name) for name in _AMOUNT_COLUMNS}
    amounts = {name: amount_column(of) for name, of in units.items() if of is not None}
    with store.transaction():
        get_session(store, account_id, session_id)
        for table in ("trades", "equity", "metrics", "by_pair"):
            store.execute(f"DELETE FROM {table} WHERE session_id = ?", session_id)
        _save_summary(store, session_id, results, current_step)
        _save_metrics(store, session_id, results)
        save_margin(store, session_id, margin)
        session = quote_text(session_id)
        if fills:
            decimals = ", ".join(
                f"{name}::DECIMAL(38, {places})" for name, places in _TRADE_DECIMALS.items()
            )
            store.insert(
                "INSERT INTO trades (session_id, trade_id, order_id, symbol, side, type,"
                f" {', '.join(_TRADE_DECIMALS)}, simulated_at, is_liquidation)"
                f" SELECT {session}, id, order_id, symbol, side, type,"
                f" {decimals}, epoch_ms(time), is_liquidation FROM incoming",
                trades,
            )
        if len(equity):
            exact = ", ".join(sql.format(name) for name, (_, sql) in amounts.items())
            store.insert(
                f"INSERT INTO equity (session_id, simulated_at, {', '.join(amounts)})"
                f" SELECT {session}, epoch_ms(time), {exact} FROM incoming",
                {"time": equity.time, **{name: column for name, (column, _) in amounts.items()}},
            )


def load_metrics(store: Store, account_id: str, session_id: str) -> Metrics | None:
    """Return the metrics of a session; None until it has ended.

    This and the functions below raise ``SessionNotFound``, also if the session belongs to another
    account.
    """
    get_session(store, account_id, session_id)
    columns = (f"epoch_ms({name})" if name in _TIMES else name for name in _METRICS)
    rows = store.rows(f"SELECT {', '.join(columns)} FROM metrics WHERE session_id = ?", session_id)
    return Metrics(*rows[0]) if rows else None


def load_by_pair(store: Store, account_id: str, session_id: str) -> list[PairResult]:
    """Return the contribution of each symbol, sorted by symbol."""
    get_session(store, account_id, session_id)
    rows = store.rows(
        "SELECT symbol, trades, win_rate, net_pnl FROM by_pair WHERE session_id = ?"
        " ORDER BY symbol",
        session_id,
    )
    return [PairResult(*row) for row in rows]


def load_trades(
    store: Store, account_id: str, session_id: str, limit: int | None = None, offset: int = 0
) -> tuple[list[Fill], int]:
    """Return a page of the trades, in order, and the number of all trades."""
    get_session(store, account_id, session_id)
    total: int = store.rows("SELECT count(*) FROM trades WHERE session_id = ?", session_id)[0][0]
    rows = store.rows(
        f"SELECT {_TRADE_COLUMNS} FROM trades WHERE session_id = ?"
        " ORDER BY trade_id LIMIT ? OFFSET ?",
        session_id, total if limit is None else limit, offset,
    )  # fmt: skip
    return [Fill(*row) for row in rows], total


def load_equity(store: Store, account_id: str, session_id: str, every: int = 1) -> list[Snapshot]:
    """Return the snapshots of equity, in order: the first, then every ``every``-th."""
    get_session(store, account_id, session_id)
    rows = store.rows(
        f"SELECT epoch_ms(simulated_at), {', '.join(_AMOUNT_COLUMNS)} FROM equity"
        " WHERE session_id = ?"
        " QUALIFY (row_number() OVER (ORDER BY simulated_at) - 1) % ? = 0 ORDER BY simulated_at",
        session_id, every,
    )  # fmt: skip
    return [Snapshot(*row) for row in rows]


def best_session(store: Store, account_id: str, metric: str) -> Best | None:
    """Return the account's completed session with the best ``metric``, one of ``RANKED``.

    Among equals, the oldest. None if no completed session has a value of the metric. Raises
    ``InvalidParameter``.
    """
    if metric not in RANKED:
        raise InvalidParameter("metric", f"must be one of {', '.join(RANKED)}")
    column = f"s.{metric}" if metric in _SUMMARY else f"m.{metric}"
    direction = "ASC" if metric in LOWER_IS_BETTER else "DESC"
    rows = store.rows(
        f"SELECT s.session_id, s.strategy_label, {column} FROM sessions s JOIN metrics m"
        f" USING (session_id) WHERE account_id = ? AND status = 'completed'"
        f" AND {column} IS NOT NULL ORDER BY {column} {direction}, created_at, session_id LIMIT 1",
        account_id,
    )
    return Best(*rows[0]) if rows else None


def _save_summary(store: Store, session_id: str, results: Results, current_step: int) -> None:
    store.execute(
        "UPDATE sessions SET status = ?, current_step = ?, final_equity = ?::DECIMAL(38, 8),"
        " total_pnl = ?::DECIMAL(38, 8), roi_pct = ?::DECIMAL(38, 8), total_trades = ?,"
        " total_fees = ?::DECIMAL(38, 8), sharpe_ratio = ?, max_drawdown_pct = ?,"
        " completed_at = coalesce(completed_at, epoch_ms(?::BIGINT)) WHERE session_id = ?",
        results.status, current_step, exact_text(results.final_equity, 8),
        exact_text(results.total_pnl, 8), exact_text(results.roi_pct, 8), results.total_trades,
        exact_text(results.total_fees, 8),
        results.metrics.sharpe_ratio, results.metrics.max_drawdown_pct, now(), session_id,
    )  # fmt: skip


def _save_metrics(store: Store, session_id: str, results: Results) -> None:
    values = [
        exact_text(value, 8) if isinstance(value, Decimal) else value
        for value in msgspec.structs.astuple(results.metrics)
    ]
    places = ("epoch_ms(?::BIGINT)" if name in _TIMES else "?" for name in _METRICS)
    store.execute(
        f"INSERT INTO metrics (session_id, {', '.join(_METRICS)}) VALUES (?, {', '.join(places)})",
        session_id, *values,
    )  # fmt: skip
    for pair in results.by_pair:
        store.execute(
            "INSERT INTO by_pair VALUES (?, ?, ?, ?, ?::DECIMAL(38, 8))",
            session_id, pair.symbol, pair.trades, pair.win_rate, exact_text(pair.net_pnl, 8),
        )  # fmt: skip


def _trade_columns(fills: Sequence[Fill]) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {
        name: np.array([getattr(fill, name) for fill in fills], dtype=np.int64)
        for name in ("id", "order_id", "time")
    }
    columns["is_liquidation"] = np.array([fill.is_liquidation for fill in fills], dtype=np.bool_)
    for name in ("symbol", "side", "type"):
        columns[name] = text_column([getattr(fill, name) for fill in fills])
    for name, places in _TRADE_DECIMALS.items():
        columns[name] = text_column([exact_text(getattr(fill, name), places) for fill in fills])
    return columns
