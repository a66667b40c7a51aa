"""The files of runs as arrays and rows, for charts and tables, and tables as CSV and Parquet."""

import csv
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.data.run_files.run_files import connection, read_run_file
from candlestep.data.store.rows import text_column
from candlestep.data.store.sql import quote_text
from candlestep.sandbox import ClosedTrade

_TRADES = (
    "fill_id, symbol, side, quantity, epoch_ms(entry_time), entry_price, epoch_ms(exit_time),"
    " exit_price, pnl, fee, return_pct"
)
"""The fields of ``ClosedTrade``, in order."""


class EquityColumns(NamedTuple):
    """The equity of a run at each of ``time`` (ms)."""

    time: NDArray[np.int64]
    equity: NDArray[np.float64]


def read_equity(directory: Path) -> EquityColumns | None:
    """Return a run's equity; None if the file was deleted. Raises ``StorageUnavailable``."""

    def read(path: Path) -> EquityColumns:
        with connection().cursor() as cursor:
            columns = cursor.execute(
                "SELECT epoch_ms(time) AS time, equity::DOUBLE AS equity FROM"
                f" read_parquet({quote_text(str(path))}) ORDER BY time"
            ).fetchnumpy()
        return EquityColumns(np.asarray(columns["time"]), np.asarray(columns["equity"]))

    return read_run_file(directory, "equity", read)


def read_closed_trades(directory: Path) -> list[ClosedTrade] | None:
    """Return a run's closed trades, oldest first; None if the file was deleted."""

    def read(path: Path) -> list[ClosedTrade]:
        with connection().cursor() as cursor:
            rows = cursor.execute(
                f"SELECT {_TRADES} FROM read_parquet({quote_text(str(path))}) ORDER BY fill_id"
            ).fetchall()
        return [ClosedTrade(*row) for row in rows]

    return read_run_file(directory, "trades", read)


def csv_bytes(header: Sequence[str], rows: Sequence[Sequence[str | int | None]]) -> bytes:
    """Return a table as CSV with a header; None is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet_bytes(columns: Mapping[str, str], rows: Mapping[str, Sequence[str | None]]) -> bytes:
    """Return a table as Parquet: each column has an SQL type, to which its texts are cast."""
    selection = ", ".join(f"{name}::{kind} AS {name}" for name, kind in columns.items())
    incoming = {name: text_column(list(rows[name])) for name in columns}
    with tempfile.TemporaryDirectory() as directory, connection().cursor() as cursor:
        path = Path(directory) / "table.parquet"
        cursor.register("incoming", incoming)
        cursor.execute(
            f"COPY (SELECT {selection} FROM incoming) TO {quote_text(str(path))} (FORMAT parquet)"
        )
        return path.read_bytes()
