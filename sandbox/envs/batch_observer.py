"""Observations of many accounts: windows of the feature table, or rows of it, and the accounts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.envs.features import FeatureTable
from candlestep.sandbox.envs.settings import Settings
from candlestep.sandbox.envs.spaces import account_size, window_size
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.exchange.batch.batch import Batch
from candlestep.sandbox.exchange.batch.exact import Floats, Integers

Observations = NDArray[np.float32] | dict[str, NDArray[Any]]
Out = NDArray[np.float32]
"""A buffer for flat observations, an account a row."""


class BatchObserver:
    """Observations of the accounts of a batch."""

    def __init__(
        self,
        settings: Settings,
        table: FeatureTable,
        batch: Batch,
        *,
        is_index: bool,
        copy: bool,
        out: Out | None,
    ) -> None:
        """Observe ``batch``; with ``out`` or without ``copy``, all in one buffer.

        Raises ``InvalidParameter`` for a buffer of another shape or type.
        """
        self._settings = settings
        self._batch = batch
        self._rows = table.row
        self._is_index = is_index
        self._account = account_size(settings)
        self._windows = window_size(settings, table)
        self._span = settings.window * len(table.names)
        self._views = table.windows(settings.window, self._account)
        shape = (len(batch), self._windows + self._account)
        self._shape = shape
        self._buffer: NDArray[np.float32] | None = None
        if out is not None:
            self.write_to(out)
        elif not copy and settings.is_flat and not is_index:
            self._buffer = np.empty(shape, dtype=np.float32)

    def write_to(self, out: Out) -> None:
        """Write observations into a buffer from now on; raises ``InvalidParameter``."""
        is_flat = self._settings.is_flat and not self._is_index
        if not is_flat or out.shape != self._shape or out.dtype != np.float32:
            raise InvalidParameter(
                "out", f"must be a float32 array of shape {self._shape}, for flat windows"
            )
        self._buffer = out

    def observe(
        self,
        done: Integers,
        length: Integers,
        start: Floats,
        accounts: NDArray[np.intp] | None = None,
    ) -> Observations:
        """Return observations of all accounts, or new ones of some.

        ``done`` and ``length`` are steps of the episodes, ``start`` the starting balances.
        """
        is_all = accounts is None
        chosen: Any = slice(None) if accounts is None else accounts
        steps = self._batch.step[chosen]
        if self._is_index:
            return self._by_index(steps, done, length, start, chosen)
        observations = self._window_part(steps, self._buffer if is_all else None)
        if self._account:
            part = observations[:, self._windows :]
            self._write_account(part, done, length, start, chosen)
        if self._settings.is_flat:
            return observations
        count = len(self._settings.symbols)
        windows = observations[:, : self._windows]
        windows = windows.reshape(len(steps), count, self._settings.window, -1)
        parts = {"window": np.concatenate([windows[:, n] for n in range(count)], axis=2)}
        if self._account:
            parts["account"] = observations[:, self._windows :].copy()
        return parts

    def _window_part(
        self, steps: Integers, buffer: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        first = self._settings.window - 1
        if len(self._rows) == 1:
            rows = self._rows[0][steps] - first
            if buffer is None:
                copied: NDArray[np.float32] = self._views[rows]
                return copied
            buffer[:] = self._views[rows]
            return buffer
        if buffer is None:
            buffer = np.empty((len(steps), self._windows + self._account), dtype=np.float32)
        for number, symbol_rows in enumerate(self._rows):
            place = number * self._span
            rows = symbol_rows[steps] - first
            buffer[:, place : place + self._span] = self._views[rows, : self._span]
        return buffer

    def _by_index(
        self, steps: Integers, done: Integers, length: Integers, start: Floats, chosen: Any
    ) -> Observations:
        parts: dict[str, NDArray[Any]] = {"row": self._rows[:, steps].T}
        if len(self._rows) == 1:
            parts["row"] = self._rows[0][steps]
        if self._account:
            account = np.empty((len(steps), self._account), dtype=np.float32)
            self._write_account(account, done, length, start, chosen)
            parts["account"] = account
        return parts

    def _write_account(
        self,
        part: NDArray[np.float32],
        done: Integers,
        length: Integers,
        start: Floats,
        chosen: Any,
    ) -> None:
        batch = self._batch
        count = len(self._rows)
        equity = batch.equity[chosen].astype(np.float64)
        whole = np.maximum(equity, 1)
        starts = start[chosen]
        unrealized = -batch.cost_basis[:, chosen].sum(axis=0)
        for number in range(count):
            value = batch.value[number, chosen]
            unrealized += value
            part[:, number] = value.astype(np.float64) / whole
        part[:, count] = unrealized.astype(np.float64) / starts
        part[:, count + 1] = equity / starts - 1
        part[:, count + 2] = 1 - done[chosen] / length[chosen]
