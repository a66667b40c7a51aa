"""Results that only sessions on perpetuals have: funding payments, liquidations, and their figures."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from candlestep.data.records.sessions import get_session
from candlestep.data.store.database import Store
from candlestep.data.store.rows import exact_text, named_values, text_column, to_json
from candlestep.data.store.sql import quote_text
from candlestep.sandbox import FundingPayment, Liquidation, Session
from candlestep.sandbox.exchange.margin.reports import MarginFigures
from candlestep.sandbox.money import decimal_of

_FIGURES = MarginFigures.__struct_fields__
_PAYMENT_DOUBLES = ("rate", "mark_price")
"""Numbers that were imported, which are doubles, of any number of decimal places."""
_PAYMENT_DECIMALS = {"quantity": 8, "notional": 8, "amount": 8}
_PAYMENT_COLUMNS = (
    "payment_id, symbol, rate, mark_price, mark_source, quantity, notional, amount,"
    " epoch_ms(simulated_at)"
)
_LIQUIDATION_DECIMALS = {
    "quantity": 8, "mark_price": 16, "price": 16, "closed_pnl": 8, "loss": 8, "fee": 8,
    "insurance": 8,
}  # fmt: skip
_LIQUIDATION_COLUMNS = (
    "order_id, symbol, side, quantity, mark_price, price, closed_pnl, loss, fee, insurance,"
    " margin_mode, epoch_ms(simulated_at)"
)


class MarginRecord(NamedTuple):
    """The results that only a session on perpetuals has."""

    figures: MarginFigures
    tiers: Mapping[str, Any]
    """By symbol, the ``source`` of its margin tiers and the ``tiers`` as plain values."""
    payments: Sequence[FundingPayment]
    liquidations: Sequence[Liquidation]


class StoredMargin(NamedTuple):
    """The figures of a session on perpetuals that has ended, and the tiers that it had."""

    figures: MarginFigures
    tiers: Mapping[str, Any]


class FundingPage(NamedTuple):
    """A page of the funding payments of a session, with the number and the sum of all."""

    payments: list[FundingPayment]
    total: int
    total_amount: Decimal


def margin_record(session: Session) -> MarginRecord | None:
    """Return what a session on perpetuals has to save besides its results; None on spot."""
    results, config = session.results(), session.config
    if config.margin is None:
        return None
    chosen = config.margin.chosen_tiers(session.market, config.instruments)
    return MarginRecord(
        MarginFigures(*(getattr(results, name) for name in _FIGURES)),
        {
            symbol: {"source": source, "tiers": tiers.settings()}
            for symbol, (source, tiers) in chosen.items()
        },
        session.funding_payments,
        session.liquidations,
    )


def save_margin(store: Store, session_id: str, margin: MarginRecord | None) -> None:
    """Replace what is saved of a session; None saves nothing. In a transaction."""
    for table in ("margin_results", "funding_payments", "liquidations"):
        store.execute(f"DELETE FROM {table} WHERE session_id = ?", session_id)
    if margin is None:
        return
    values = [
        exact_text(value, 8) if isinstance(value, Decimal) else value
        for value in msgspec.structs.astuple(margin.figures)
    ]
    store.execute(
        f"INSERT INTO margin_results (session_id, {', '.join(_FIGURES)}, margin_tiers)"
        f" VALUES (?{', ?' * len(_FIGURES)}, ?)",
        session_id, *values, to_json(margin.tiers),
    )  # fmt: skip
    session = quote_text(session_id)
    plain: tuple[str, ...]
    if margin.payments:
        plain = ("symbol", "mark_source")
        columns = _columns(margin.payments, ("id", "time"), plain, _PAYMENT_DECIMALS)
        columns |= {
            name: np.array([float(getattr(payment, name)) for payment in margin.payments])
            for name in _PAYMENT_DOUBLES
        }
        names = ", ".join([*plain, *_PAYMENT_DOUBLES])
        store.insert(
            f"INSERT INTO funding_payments (session_id, payment_id, {names},"
            f" {', '.join(_PAYMENT_DECIMALS)}, simulated_at) SELECT {session}, id, {names},"
            f" {_exact(_PAYMENT_DECIMALS)}, epoch_ms(time) FROM incoming",
            columns,
        )
    if margin.liquidations:
        plain = ("symbol", "side", "margin_mode")
        names = ", ".join(plain)
        store.insert(
            f"INSERT INTO liquidations (session_id, order_id, {names},"
            f" {', '.join(_LIQUIDATION_DECIMALS)}, simulated_at) SELECT {session}, order_id,"
            f" {names}, {_exact(_LIQUIDATION_DECIMALS)}, epoch_ms(time) FROM incoming",
            _columns(margin.liquidations, ("order_id", "time"), plain, _LIQUIDATION_DECIMALS),
        )


def load_margin(store: Store, account_id: str, session_id: str) -> StoredMargin | None:
    """Return the figures of a session on perpetuals that has ended; None for every other.

    This and the functions below raise ``SessionNotFound``, also if the session belongs to another
    account.
    """
    get_session(store, account_id, session_id)
    rows = store.rows(
        f"SELECT {', '.join(_FIGURES)}, margin_tiers FROM margin_results WHERE session_id = ?",
        session_id,
    )
    if not rows:
        return None
    figures = named_values((*_FIGURES, "tiers"), rows[0], ("tiers",))
    tiers = figures.pop("tiers")
    return StoredMargin(MarginFigures(**figures), tiers)


def load_funding(
    store: Store, account_id: str, session_id: str, limit: int | None = None, offset: int = 0
) -> FundingPage:
    """Return a page of the funding payments of a session that has ended, in order."""
    get_session(store, account_id, session_id)
    [(total, amount)] = store.rows(
        "SELECT count(*), coalesce(sum(amount), 0)::DECIMAL(38, 8) FROM funding_payments"
        " WHERE session_id = ?",
        session_id,
    )
    rows = store.rows(
        f"SELECT {_PAYMENT_COLUMNS} FROM funding_payments WHERE session_id = ?"
        " ORDER BY payment_id LIMIT ? OFFSET ?",
        session_id, total if limit is None else limit, offset,
    )  # fmt: skip
    return FundingPage([_to_payment(row) for row in rows], total, amount)


def load_liquidations(store: Store, account_id: str, session_id: str) -> list[Liquidation]:
    """Return the liquidations of a session that has ended, in order."""
    get_session(store, account_id, session_id)
    rows = store.rows(
        f"SELECT {_LIQUIDATION_COLUMNS} FROM liquidations WHERE session_id = ? ORDER BY order_id",
        session_id,
    )
    return [Liquidation(*row) for row in rows]


def _to_payment(row: tuple[Any, ...]) -> FundingPayment:
    number, symbol, rate, mark_price, *others = row
    return FundingPayment(number, symbol, decimal_of(rate), decimal_of(mark_price), *others)


def _exact(decimals: Mapping[str, int]) -> str:
    return ", ".join(f"{name}::DECIMAL(38, {places})" for name, places in decimals.items())


def _columns(
    rows: Sequence[Any],
    integers: Sequence[str],
    texts: Sequence[str],
    decimals: Mapping[str, int],
) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {
        name: np.array([getattr(row, name) for row in rows], dtype=np.int64) for name in integers
    }
    for name in texts:
        columns[name] = text_column([getattr(row, name) for row in rows])
    for name, places in decimals.items():
        columns[name] = text_column([exact_text(getattr(row, name), places) for row in rows])
    return columns
