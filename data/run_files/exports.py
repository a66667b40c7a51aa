"""A run's equity and closed trades as the Backtests API gives them out: JSON numbers, or Parquet.

Both are made by the database of the files that the run has left. Numbers are fractions where the
run's are in percent; the times are those of ``data.payloads``.
"""

import tempfile
from pathlib import Path
from typing import Literal

import msgspec

from candlestep.data.run_files.run_files import (
    TIME_AS_TEXT,
    connection,
    json_list,
    read_run_file,
)
from candlestep.data.store.sql import quote_text

Export = Literal["equity", "trades"]

_DATES = ("date", "entry_date", "exit_date")
_TEXTS = ("side",)
_COLUMNS: dict[Export, dict[str, str]] = {
    "equity": {"date": "time", "equity": "equity"},
    "trades": {
        "entry_date": "entry_time", "exit_date": "exit_time", "side": "side",
        "entry_price": "entry_price", "exit_price": "exit_price", "size": "quantity",
        "pnl": "pnl", "return_pct": "return_pct * 0.01",
    },
}  # fmt: skip
"""By the names that are given out."""
_ORDER: dict[Export, str] = {"equity": "time", "trades": "fill_id"}
_NUMBER = r"coalesce(regexp_replace(({0})::VARCHAR, '\.?0+$', ''), 'null')"
"""A decimal with all its digits, as a number of JSON."""
_DATE_INDEX = {
    "index_columns": ["date"],
    "column_indexes": [],
    "columns": [
        {"name": "date", "field_name": "date", "pandas_type": "datetime",
         "numpy_type": "datetime64[us]", "metadata": None},
        {"name": "equity", "field_name": "equity", "pandas_type": "float64",
         "numpy_type": "float64", "metadata": None},
    ],
    "pandas_version": "2.0.0",
}  # fmt: skip
"""What pandas reads in a file to make an index of a column."""


def read_json(directory: Path, export: Export) -> bytes | None:
    """The rows as JSON, ``[{"date": "2025-01-01T01:00:00Z", "equity": 10000.5}, …]``.

    Of the equity, that at the end of each candle. None if it is there no more.
    """
    fields = " || ',' || ".join(
        f"""'"{name}":' || {_json_text(name, sql)}""" for name, sql in _COLUMNS[export].items()
    )

    def read(path: Path) -> bytes:
        return json_list(f"'{{' || {fields} || '}}'", _ORDER[export], _source(path, export))

    return read_run_file(directory, export, read)


def read_parquet(directory: Path, export: Export) -> bytes | None:
    """The rows as a Parquet file: numbers are DOUBLE; pandas indexes the equity by its date.

    Of the equity, that at the end of each candle. None if it is there no more.
    """
    columns = ", ".join(
        f"{sql if name in _DATES + _TEXTS else f'({sql})::DOUBLE'} AS {name}"
        for name, sql in _COLUMNS[export].items()
    )
    options = "FORMAT parquet"
    if export == "equity":
        options += (
            f", KV_METADATA {{pandas: {quote_text(msgspec.json.encode(_DATE_INDEX).decode())}}}"
        )

    def read(path: Path) -> bytes:
        with (
            tempfile.TemporaryDirectory(dir=path.parent) as made,
            connection().cursor() as cursor,
        ):
            copy = Path(made) / path.name
            cursor.execute(
                f"COPY (SELECT {columns} FROM {_source(path, export)}"
                f" ORDER BY {_ORDER[export]}) TO {quote_text(str(copy))} ({options})"
            )
            return copy.read_bytes()

    return read_run_file(directory, export, read)


def _source(path: Path, export: Export) -> str:
    """The rows of a file in their order; of the equity without the first, that of the start."""
    rows = f"SELECT * FROM read_parquet({quote_text(str(path))}) ORDER BY {_ORDER[export]}"
    return f"({rows}{' OFFSET 1' if export == 'equity' else ''})"


def _json_text(name: str, sql: str) -> str:
    if name in _DATES:
        return f"""'"' || ({TIME_AS_TEXT.format(sql)}) || '"'"""
    if name in _TEXTS:
        return f"""'"' || {sql} || '"'"""
    return _NUMBER.format(sql)
