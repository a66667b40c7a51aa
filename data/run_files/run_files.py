"""The files of runs: equity, closed trades and signals, as Parquet under the home directory.

``HOME/results/{job_id}/{run number}/equity.parquet``, and so on. A file appears whole or not at
all. Summaries of jobs are kept for ever, files only for the setting ``result_days``.
"""

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import duckdb
import msgspec
import numpy as np
from numpy.typing import NDArray

from candlestep.data.errors import StorageUnavailable
from candlestep.data.records.jobs import jobs_with_old_run_files, save_run_files_deleted
from candlestep.data.store.database import Store
from candlestep.data.store.rows import amount_column, exact_text, text_column
from candlestep.data.store.sql import quote_text
from candlestep.sandbox import ClosedTrade
from candlestep.sandbox.clock import DAY

DIRECTORY = "results"
"""The directory in the home."""

_FITS_18_DIGITS = 10**17
_local = threading.local()

Result = TypeVar("Result")
RunFileName = Literal["equity", "trades", "signals"]

_TRADES = {
    "fill_id": "{0}::BIGINT", "symbol": "{0}", "side": "{0}",
    "quantity": "{0}::DECIMAL(38, 8)",
    "entry_time": "epoch_ms({0}::BIGINT)", "entry_price": "{0}::DECIMAL(38, 16)",
    "exit_time": "epoch_ms({0}::BIGINT)", "exit_price": "{0}::DECIMAL(38, 16)",
    "pnl": "{0}::DECIMAL(38, 8)", "fee": "{0}::DECIMAL(38, 8)",
    "return_pct": "{0}::DECIMAL(38, 8)",
}  # fmt: skip
_TRADE_PLACES = {
    "quantity": 8, "entry_price": 16, "exit_price": 16, "pnl": 8, "fee": 8, "return_pct": 8,
}  # fmt: skip
_SIGNALS = {
    "time": "epoch_ms({0}::BIGINT)", "symbol": "{0}", "action": "{0}", "order_id": "{0}::BIGINT",
    "refused": "{0}",
}  # fmt: skip


def run_directory(home: Path, job_id: str, run_number: int) -> Path:
    """Return the directory of the files of a run."""
    return home / DIRECTORY / job_id / str(run_number)


def run_file(directory: Path, name: RunFileName) -> Path:
    """Return the path of a run's equity, trades or signals."""
    return directory / f"{name}.parquet"


def write_equity(directory: Path, times: NDArray[Any], units: NDArray[Any]) -> None:
    """Write the equity, in integer units of 1e-8, at each of ``times`` (ms).

    Both arrays have the same length. The columns of the file are ``time`` TIMESTAMP and
    ``equity`` DECIMAL with 8 places. Raises ``InvalidParameter`` for amounts of more than 30
    digits.
    """
    column, exact = amount_column(units)
    exact = exact.format("equity")
    if units.dtype != object and np.abs(units).max() < _FITS_18_DIGITS:
        # The same value in half the width, which takes half the time.
        exact = "equity::DECIMAL(18, 0) * 0.00000001::DECIMAL(8, 8)"
    _write(
        run_file(directory, "equity"),
        f"SELECT epoch_ms(time) AS time, {exact} AS equity",
        {"time": times, "equity": column},
    )


def write_trades(directory: Path, trades: Sequence[ClosedTrade]) -> None:
    """Write closed trades exactly, with a column for each field of ``ClosedTrade``."""
    _write_rows(run_file(directory, "trades"), _TRADES, trades)


def write_signals(directory: Path, signals: Sequence[Any]) -> None:
    """Write the signals of a strategy, with a column for each field of a signal."""
    _write_rows(run_file(directory, "signals"), _SIGNALS, signals)


def write_run_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write files that another machine produced, by name."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        partial = directory / f"{name}.partial"
        partial.write_bytes(content)
        partial.replace(directory / name)


def read_equity_json(directory: Path) -> msgspec.Raw | None:
    """Return a run's equity as JSON, ``[["2025-01-01T00:00:00Z", "10000.00"], …]``.

    None if the file was deleted. The database makes the text, without blocking other threads.
    """
    item = (
        f"""'["' || ({TIME_AS_TEXT.format("time")}) || '","' || {_MONEY.format("equity")} || '"]'"""
    )
    return _read_json(directory, "equity", item, "time")


def read_trades_json(directory: Path) -> msgspec.Raw | None:
    """Return a run's closed trades as JSON: ``[{"id": 1, "side": "buy", "symbol", "entry_time",
    "entry_price", "exit_time", "exit_price", "qty", "pnl", "fee"}, …]``, with amounts as text."""
    texts = {
        "side": "side", "symbol": "symbol",
        "entry_time": TIME_AS_TEXT.format("entry_time"), "entry_price": _MONEY.format("entry_price"),
        "exit_time": TIME_AS_TEXT.format("exit_time"), "exit_price": _MONEY.format("exit_price"),
        "qty": _MONEY.format("quantity"), "pnl": _MONEY.format("pnl"), "fee": _MONEY.format("fee"),
    }  # fmt: skip
    fields = "".join(f""" || ',"{name}":"' || ({sql}) || '"'""" for name, sql in texts.items())
    item = f"""'{{"id":' || row_number() OVER (ORDER BY fill_id){fields} || '}}'"""
    return _read_json(directory, "trades", item, "fill_id")


def _read_json(directory: Path, name: RunFileName, item: str, order: str) -> msgspec.Raw | None:
    def read(path: Path) -> msgspec.Raw:
        return msgspec.Raw(json_list(item, order, f"read_parquet({quote_text(str(path))})"))

    return read_run_file(directory, name, read)


def read_run_file(
    directory: Path, name: RunFileName, read: Callable[[Path], Result]
) -> Result | None:
    """Return what ``read`` returns for a file of a run; None if the file was deleted.

    Raises ``StorageUnavailable``.
    """
    path = run_file(directory, name)
    if not path.exists():
        return None
    try:
        return read(path)
    except (duckdb.Error, OSError) as error:
        if not path.exists():  # It was deleted in the meantime.
            return None
        raise StorageUnavailable(f"the {name} of the run cannot be read: {error}") from None


def json_list(item: str, order: str, source: str) -> bytes:
    """Return a JSON list of the rows of ``source``, sorted by ``order``.

    ``item``, ``order`` and ``source`` are SQL; ``item`` makes the JSON of a row.
    """
    with connection().cursor() as cursor:
        row = cursor.execute(
            "SELECT '[' || coalesce(string_agg(item, ',' ORDER BY place), '') || ']' FROM"
            f" (SELECT {item} AS item, {order} AS place FROM {source})"
        ).fetchone()
    assert row is not None
    text: str = row[0]
    return text.encode()


def delete_job_files(home: Path, job_id: str) -> None:
    """Delete the files of all runs of a job, if there are any."""
    with suppress(FileNotFoundError):
        shutil.rmtree(home / DIRECTORY / job_id)


def delete_old_run_files(store: Store, home: Path, *, time: int, days: int) -> list[str]:
    """Delete the files of jobs that ended more than ``days`` before ``time`` (ms).

    Returns the ids of those jobs. Files that could not be deleted are left to the next call.
    """
    old = jobs_with_old_run_files(store, time - days * DAY)
    for job_id in old:
        delete_job_files(home, job_id)
        save_run_files_deleted(store, job_id, time)
    return old


TIME_AS_TEXT = (
    "CASE WHEN epoch_ms({0}) % 1000 = 0 THEN strftime({0}, '%Y-%m-%dT%H:%M:%SZ')"
    " ELSE strftime({0}, '%Y-%m-%dT%H:%M:%S.%gZ') END"
)
"""The SQL of a time as the API writes it."""
_MONEY = r"regexp_replace({0}::VARCHAR, '(\.\d\d\d*?)0+$', '\1')"
"""The SQL of an amount with all its digits and at least two decimals."""


def _write_rows(path: Path, columns: Mapping[str, str], rows: Sequence[Any]) -> None:
    """Write the attributes of ``rows``; ``columns`` has their names and the SQL of each."""
    selection = ", ".join(f"{sql.format(name)} AS {name}" for name, sql in columns.items())
    texts = {
        name: text_column([_as_text(getattr(row, name), name) for row in rows]) for name in columns
    }
    _write(path, f"SELECT {selection}", texts)


def _write(path: Path, selection: str, columns: Mapping[str, NDArray[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with connection().cursor() as cursor:
        cursor.register("incoming", dict(columns))
        cursor.execute(
            f"COPY ({selection} FROM incoming) TO {quote_text(str(partial))} (FORMAT parquet)"
        )
    partial.replace(path)


def connection() -> duckdb.DuckDBPyConnection:
    """Return this thread's in-memory database, which is created once.

    Creating one takes as long as writing a file.
    """
    if not hasattr(_local, "connection"):
        _local.connection = duckdb.connect(config={"threads": 1})
    database: duckdb.DuckDBPyConnection = _local.connection
    return database


def _as_text(value: Any, name: str) -> str | None:
    places = _TRADE_PLACES.get(name)
    if places is not None:
        return exact_text(value, places)
    return None if value is None else str(value)
