"""Errors of the data layer: input that it refuses, and storage that fails."""

from typing import Any, NamedTuple

import msgspec

from candlestep.sandbox import SandboxError

NOT_JSON = (msgspec.MsgspecError, ValueError, RecursionError)
"""Errors of msgspec for bytes that are not JSON (or TOML) of a type, or are nested too deeply."""


class StorageUnavailable(SandboxError):
    """The store could not be read or written.

    Nothing was changed, and a retry is safe, unless ``details["applied"]`` is true: what was asked
    for is done then, and will be stored without being asked for again.
    """

    code = "STORAGE_UNAVAILABLE"


class StoreLocked(StorageUnavailable):
    """Another process has the store open; ``details["pid"]`` is its id if it is known."""


class StoreTooNew(StorageUnavailable):
    """The store was written by a newer version. The file is unchanged."""


class StoreDamaged(StorageUnavailable):
    """A block of the store is not as it was written, so that what is in it cannot be read."""


class NotAStore(StorageUnavailable):
    """The file at the path of the store is not a store. It is unchanged."""


class UnreadableFile(SandboxError):
    """A file has no candles, or not enough is known about them; ``details["file"]`` names it."""

    code = "INVALID_PARAMETER"

    def __init__(self, file: str, reason: str, **details: Any) -> None:
        super().__init__(f"{file}: {reason}", file=file, **details)


class BadRow(NamedTuple):
    """The place of a bad row in a file, and the reason why it is bad."""

    line: int
    reason: str


class BadRows(UnreadableFile):
    """A file has rows that cannot be candles; ``details["rows"]`` has the first, with reasons."""

    SHOWN = 5

    def __init__(self, file: str, rows: list[BadRow], count: int, unit: str = "line") -> None:
        """Describe the first bad ``rows`` of ``count``; ``unit`` is "line" or "row"."""
        shown = rows[: self.SHOWN]
        lines = "; ".join(f"{unit} {row.line}: {row.reason}" for row in shown)
        rest = f"; and {count - len(shown)} more" if count > len(shown) else ""
        noun = "row" if count == 1 else "rows"
        super().__init__(
            file,
            f"{count} bad {noun}, nothing was imported: {lines}{rest}",
            count=count,
            rows=[{unit: row.line, "reason": row.reason} for row in shown],
        )


class MixedMarket(SandboxError):
    """Synthetic and real candles of one symbol must not be mixed."""

    code = "INVALID_STATE"


class MarketPruned(SandboxError):
    """The market as of this import was dropped by ``prune``."""

    code = "NO_DATA"


class OverBudget(SandboxError):
    """The requested candles exceed the memory budget, even if nothing else is in memory."""

    code = "INVALID_PARAMETER"


class BudgetInUse(SandboxError):
    """Candles in use take up the memory budget; it becomes free when their sessions end."""

    code = "RATE_LIMITED"


class DownloadFailed(SandboxError):
    """The archive could not be reached, or a file does not match its checksum."""

    code = "DOWNLOAD_FAILED"


class AccountNotFound(SandboxError):
    """There is no account with this id."""

    code = "ACCOUNT_NOT_FOUND"


class AgentNotFound(SandboxError):
    """The account has no agent with this id."""

    code = "AGENT_NOT_FOUND"


class ExchangeNotFound(SandboxError):
    """There are no candles of an exchange with this name."""

    code = "EXCHANGE_NOT_FOUND"


class KeyNotFound(SandboxError):
    """There is no API key with this id."""

    code = "KEY_NOT_FOUND"


class SessionNotFound(SandboxError):
    """The account has no session with this id."""

    code = "SESSION_NOT_FOUND"


class JobNotFound(SandboxError):
    """The account has no job with this id."""

    code = "NOT_FOUND"


class StrategyNotFound(SandboxError):
    """The account has no stored strategy with this id."""

    code = "STRATEGY_NOT_FOUND"


class BacktestNotFound(SandboxError):
    """The account has no backtest with this id."""

    code = "BACKTEST_NOT_FOUND"
