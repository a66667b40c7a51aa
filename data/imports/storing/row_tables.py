"""Tables of imported rows, each with a time, numbers, and the imports that added and superseded it.

A row has the number of the import that added it and of the one that superseded it. The market as of
import *n* is the rows with ``import_number <= n`` that no import up to *n* has superseded, so no
later import changes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from candlestep.data.imports.reading import Integers
from candlestep.data.store.database import Store

Series = tuple[int, int]
"""An instrument and an interval in seconds, which is 0 for rows of a table without one."""

_PART = 200_000
"""The rows compared and written at once: few enough that other threads get their turn."""


@dataclass(frozen=True)
class RowTable:
    """A table of rows, one at a time of each series."""

    name: str
    time: str
    """The column of times."""
    numbers: tuple[str, ...]
    """The columns that tell whether a row is another one."""
    length: str = "0"
    """The SQL of a row's interval in seconds."""
    nullable: tuple[str, ...] = ()
    """The numbers that may be NULL, which stands for NaN."""
    notes: tuple[str, ...] = ()
    """Columns of further times, which tell nothing."""

    @property
    def of_series(self) -> str:
        """The SQL that chooses a series, with two parameters."""
        return f"instrument_id = ? AND {self.length} = ?"

    def write(
        self, store: Store, series: Series, columns: Mapping[str, NDArray[Any]], number: int
    ) -> tuple[int, int]:
        """Write rows sorted by time under an import number; those that are there stay.

        ``columns`` are the times and numbers by the names of columns; NaN is stored as NULL.
        Returns how many rows superseded another one, and how many were there already. Only inside
        ``transaction("candles")``.
        """
        replaced = unchanged = 0
        for start in range(0, len(columns[self.time]), _PART):
            part = {name: column[start : start + _PART] for name, column in columns.items()}
            same, other = self._compare(store, series, part)
            replaced += int(other.sum())
            unchanged += int(same.sum())
            self.supersede(store, series, part[self.time][other], number)
            if not same.all():
                self._insert(store, series, part, ~same, number)
        return replaced, unchanged

    def supersede(self, store: Store, series: Series, times: NDArray[Any], number: int) -> None:
        """Let an import supersede the current rows of these times."""
        if len(times):
            store.insert(
                f"UPDATE {self.name} SET superseded_by = {number} FROM incoming"
                f" WHERE instrument_id = {series[0]} AND {self.length} = {series[1]}"
                f" AND superseded_by IS NULL AND {self.time} = epoch_ms(incoming.at)",
                {"at": times},
            )

    def times(self, store: Store, series: Series) -> Integers:
        """Return the times of the current rows of a series, sorted."""
        columns = store.arrays(
            f"SELECT epoch_ms({self.time}) AS at FROM {self.name} WHERE {self.of_series}"
            " AND superseded_by IS NULL",
            *series,
        )
        return np.sort(columns["at"])

    def _compare(
        self, store: Store, series: Series, columns: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which rows are current already, and which supersede a current one."""
        times = columns[self.time]
        current = store.arrays(
            f"SELECT epoch_ms({self.time}) AS at, {self._with_nan()} FROM {self.name}"
            f" WHERE {self.of_series} AND superseded_by IS NULL"
            f" AND {self.time} BETWEEN epoch_ms(?::BIGINT) AND epoch_ms(?::BIGINT)",
            *series, int(times[0]), int(times[-1]),
        )  # fmt: skip
        rows = np.searchsorted(times, current["at"])
        theirs = times[rows] == current["at"]
        known = rows[theirs]
        same = np.ones(len(known), dtype=bool)
        for name in self.numbers:
            left, right = current[name][theirs], columns[name][known]
            equal = left == right
            if name in self.nullable:
                equal |= np.isnan(left) & np.isnan(right)
            same &= equal
        is_same = np.zeros(len(times), dtype=bool)
        is_same[known[same]] = True
        is_other = np.zeros(len(times), dtype=bool)
        is_other[known[~same]] = True
        return is_same, is_other

    def _insert(
        self,
        store: Store,
        series: Series,
        columns: Mapping[str, NDArray[Any]],
        chosen: NDArray[np.bool_],
        number: int,
    ) -> None:
        length = "" if self.length == "0" else f" {series[1]} AS {self.length},"
        times = "".join(f" epoch_ms({name}) AS {name}," for name in (self.time, *self.notes))
        store.insert(
            f"INSERT INTO {self.name} BY NAME SELECT {series[0]} AS instrument_id,{length}{times}"
            f" {self._with_null()}, {number} AS import_number FROM incoming",
            {name: column[chosen] for name, column in columns.items()},
        )

    def _with_nan(self) -> str:
        """Return the SQL that reads the numbers, NaN for NULL."""
        return ", ".join(
            f"coalesce({name}, 'nan'::DOUBLE) AS {name}" if name in self.nullable else name
            for name in self.numbers
        )

    def _with_null(self) -> str:
        """Return the SQL of the numbers to store, NULL for NaN."""
        return ", ".join(
            f"CASE WHEN NOT isnan({name}) THEN {name} END AS {name}"
            if name in self.nullable
            else name
            for name in self.numbers
        )


CANDLES = RowTable(
    "candles", "open_time", ("open", "high", "low", "close", "volume"), "interval_seconds"
)
FUNDING = RowTable(
    "funding",
    "settled_at",
    ("rate", "interval_ms", "mark"),
    nullable=("mark",),
    notes=("stated_at",),
)
TIERS = RowTable("tiers", "in_force_from", ())

TABLES = {"candles": CANDLES, "mark": CANDLES, "funding": FUNDING, "tiers": TIERS}
"""The table of the rows of each kind."""
