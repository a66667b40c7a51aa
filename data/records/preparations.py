"""Preparations: markets and periods on which programs can be executed."""

from typing import Literal

import msgspec

from candlestep.data.records.jobs import job_not_found
from candlestep.data.store.database import Store
from candlestep.data.store.rows import to_struct

SourceType = Literal["ticker", "kline"]

_COLUMNS = (
    "job_id, account_id, source_type, exchange, symbol, base, quote, epoch_ms(start_time),"
    " epoch_ms(end_time), interval_seconds * 1000, import_number, epoch_ms(started_at),"
    " epoch_ms(finished_at)"
)


class Preparation(msgspec.Struct, frozen=True, kw_only=True):
    """A market and a period that has candles. Times and the interval are in milliseconds."""

    job_id: str
    account_id: str
    source_type: SourceType
    exchange: str
    symbol: str
    base: str
    quote: str
    start_time: int
    end_time: int
    interval: int
    import_number: int
    """The market is as of this import."""
    started_at: int
    finished_at: int

    @property
    def instrument(self) -> str:
        """The symbol with its currencies separated: BTC/USDT."""
        return f"{self.base}/{self.quote}"


def save_preparation(store: Store, preparation: Preparation) -> None:
    """Store a preparation, unless its id exists: it is derived from all that the row has."""
    with store.transaction():
        store.execute(
            "INSERT OR IGNORE INTO preparations VALUES (?, ?, ?, ?, ?, ?, ?, epoch_ms(?::BIGINT),"
            " epoch_ms(?::BIGINT), ?, ?, epoch_ms(?::BIGINT), epoch_ms(?::BIGINT))",
            preparation.job_id, preparation.account_id, preparation.source_type,
            preparation.exchange, preparation.symbol, preparation.base, preparation.quote,
            preparation.start_time, preparation.end_time, preparation.interval // 1000,
            preparation.import_number, preparation.started_at, preparation.finished_at,
        )  # fmt: skip


def get_preparation(store: Store, account_id: str, job_id: str) -> Preparation:
    """Return the account's preparation.

    Raises ``JobNotFound``, also if the preparation belongs to another account.
    """
    rows = store.rows(
        f"SELECT {_COLUMNS} FROM preparations WHERE account_id = ? AND job_id = ?",
        account_id, job_id,
    )  # fmt: skip
    if not rows:
        raise job_not_found(job_id)
    return to_struct(Preparation, rows[0])
