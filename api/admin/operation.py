"""Operations: maintenance of a store, each as plain data and a function.

A server answers an operation with lines of JSON: any number of progress lines, then one with the
result or the error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from candlestep.api.settings import Settings
from candlestep.data.market.candle_cache import LoadParts
from candlestep.data.records.sessions import SessionPage
from candlestep.data.store.database import Store


def _as_read(read: Callable[[], SessionPage]) -> SessionPage:
    """Return sessions as they are stored: those of a home without a server are in no memory."""
    return read()


class OpenHome(NamedTuple):
    """A home whose store this process has open."""

    store: Store
    load_parts: LoadParts
    """Loads candles within the memory budget of this process."""
    sessions_as_of_now: Callable[[Callable[[], SessionPage]], SessionPage] = _as_read
    """Calls a function that reads sessions, and returns them with the steps that memory knows."""


class Progress(msgspec.Struct, frozen=True):
    """The progress of one part of an operation: ``done`` of ``total`` rows, bytes or commands."""

    part: str
    done: int
    total: int
    unit: str


Report = Callable[[Progress], None]
"""Receives the progress of an operation while it runs."""


def progress_of(part: str, unit: str, report: Report) -> Callable[[int, int], None]:
    """Return a function that reports how much of one part is done, and of how much."""
    return lambda done, total: report(Progress(part, done, total, unit))


Input = TypeVar("Input", bound=msgspec.Struct)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Operation(Generic[Input, Result]):
    """A maintenance operation on a store, and the path under which a server offers it."""

    path: str
    summary: str
    request: type[Input]
    result: type[Result]
    run: Callable[[OpenHome, Input, Report], Result]
    """Raises ``SandboxError`` for a refusal, which changes nothing in the store.

    What its report raises ends it, with nothing half done.
    """
    check: Callable[[Input, Settings, Report], None] | None = None
    """Raises ``SandboxError`` for a request that exceeds the bounds of the server.

    What its report raises ends it too.
    """


class EmptyInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The input of an operation that takes no parameters."""


class ErrorLine(msgspec.Struct, frozen=True):
    """The error that ended an operation."""

    code: str
    message: str
    details: dict[str, Any]


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a server's answer; exactly one of the fields is set."""

    progress: Progress | None = None
    result: Any = None
    error: ErrorLine | None = None
