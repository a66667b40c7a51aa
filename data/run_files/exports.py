"""Exports of a run's equity and closed trades for the backtests API: JSON numbers, or Parquet.

DuckDB makes both from the files of the run. ``return_pct`` is a fraction here, and in percent in
those files. Times are written as in ``run_files.py``.
"""

import tempfile
from pathlib import Path
from typing import Literal

import msgspec

from candlestep.data.run_files.run_files import TIME_AS_TEXT, connection, json_list, read_run_file
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
"""The SQL of each exported column."""
_ORDER: dict[Export, str] = {"equity": "time", "trades": "fill_id"}
_NUMBER = r"coalesce(regexp_replace(({0})::VARCHAR, '\.?0+$', ''), 'null')"
"""The SQL of a decimal with all its digits, as a JSON number."""
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
"""Metadata by which pandas makes a column of a file the index."""


def read_json(directory: Path, export: Export) -> bytes | None:
    """Return the rows as JSON, ``[{"date": "2025-01-01T01:00:00Z", "equity": 10000.5}, …]``.

    Equity is that at the end of each candle. None if the file was deleted.
    """
    fields = " || ',' || ".join(
        f"""'"{name}":' || {_json_text(name, sql)}""" for name, sql in _COLUMNS[export].items()
    )

    def read(path: Path) -> bytes:
        return json_list(f"'{{' || {fields} || '}}'", _ORDER[export], _source(path, export))

    return read_run_file(directory, export, read)


def read_parquet(directory: Path, export: Export) -> bytes | None:
    """Return the rows as a Parquet file: numbers are DOUBLE, and pandas indexes equity by date.

    Equity is that at the end of each candle. None if the file was deleted.
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
            tempfile.TemporaryDirectory(dir=path.parent) as temporary,
            connection().cursor() as cursor,
        ):
            copy = Path(temporary) / path.name
            cursor.execute(
                f"COPY (SELECT {columns} FROM {_source(path, export)}"
                f" ORDER BY {_ORDER[export]}) TO {quote_text(str(copy))} ({options})"
            )
            return copy.read_bytes()

    return read_run_file(directory, export, read)


def _source(path: Path, export: Export) -> str:
    """Return the SQL of a file's rows in order; for equity, without the row of the start."""
    rows = f"SELECT * FROM read_parquet({quote_text(str(path))}) ORDER BY {_ORDER[export]}"
    return f"({rows}{' OFFSET 1' if export == 'equity' else ''})"


def _json_text(name: str, sql: str) -> str:
    if name in _DATES:
        return f"""'"' || ({TIME_AS_TEXT.format(sql)}) || '"'"""
    if name in _TEXTS:
        return f"""'"' || {sql} || '"'"""
    return _NUMBER.format(sql)
