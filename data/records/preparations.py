"""Preparations: a market and a time, by an id, for programs to be executed on."""

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
    """A market and a time that there are candles of; times and the interval in milliseconds."""

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
        """The symbol as it is written where its currencies are to be seen: BTC/USDT."""
        return f"{self.base}/{self.quote}"


def save_preparation(store: Store, made: Preparation) -> None:
    """Store a preparation, unless there is one of its id: its id says all of it."""
    with store.transaction():
        store.execute(
            "INSERT OR IGNORE INTO preparations VALUES (?, ?, ?, ?, ?, ?, ?, epoch_ms(?::BIGINT),"
            " epoch_ms(?::BIGINT), ?, ?, epoch_ms(?::BIGINT), epoch_ms(?::BIGINT))",
            made.job_id, made.account_id, made.source_type, made.exchange, made.symbol, made.base,
            made.quote, made.start_time, made.end_time, made.interval // 1000, made.import_number,
            made.started_at, made.finished_at,
        )  # fmt: skip


def get_preparation(store: Store, account_id: str, job_id: str) -> Preparation:
    """The account's preparation; raises ``JobNotFound``, also if it is another account's."""
    found = store.rows(
        f"SELECT {_COLUMNS} FROM preparations WHERE account_id = ? AND job_id = ?",
        account_id, job_id,
    )  # fmt: skip
    if not found:
        raise job_not_found(job_id)
    return to_struct(Preparation, found[0])
