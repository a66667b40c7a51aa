"""What the data layer refuses, and how storage fails: named errors beside sandbox's."""

from typing import Any, NamedTuple

from candlestep.sandbox import SandboxError


class StorageUnavailable(SandboxError):
    """The store could not be read or written; nothing was changed, and it may be tried again."""

    code = "STORAGE_UNAVAILABLE"


class StoreLocked(StorageUnavailable):
    """Another process has the store open; ``details["pid"]`` is its id where it is known."""


class StoreTooNew(StorageUnavailable):
    """The store was written by a newer version; it has not been touched."""


class NotAStore(StorageUnavailable):
    """The file where the store should be is something else; it has not been touched."""


class UnreadableFile(SandboxError):
    """A file that is no candles, or not enough is known of it; ``details["file"]`` names it."""

    code = "INVALID_PARAMETER"

    def __init__(self, file: str, reason: str, **details: Any) -> None:
        super().__init__(f"{file}: {reason}", file=file, **details)


class BadRow(NamedTuple):
    """Where in a file a row is, and what is wrong with it."""

    line: int
    reason: str


class BadRows(UnreadableFile):
    """Rows of a file that cannot be candles; ``details["rows"]`` has the first, with reasons."""

    SHOWN = 5

    def __init__(self, file: str, rows: list[BadRow], count: int, unit: str = "line") -> None:
        """``rows``: the first bad rows, ``count``: how many there are, ``unit``: line or row."""
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


class InvalidSymbol(SandboxError):
    """A symbol whose base and quote currency cannot be told."""

    code = "INVALID_PARAMETER"


class MixedMarket(SandboxError):
    """Synthetic and real candles of one symbol must not be mixed."""

    code = "INVALID_STATE"


class MarketPruned(SandboxError):
    """The market as of this import number was dropped by ``prune``."""

    code = "NO_DATA"


class OverBudget(SandboxError):
    """The candles asked for are more than the memory budget, whatever else is in memory."""

    code = "INVALID_PARAMETER"


class BudgetInUse(SandboxError):
    """The memory budget is taken by candles in use; it frees when their sessions end."""

    code = "RATE_LIMITED"


class DownloadFailed(SandboxError):
    """The archive could not be reached, or what it sent is not what it announced."""

    code = "DOWNLOAD_FAILED"


class AccountNotFound(SandboxError):
    """There is no account of this name."""

    code = "ACCOUNT_NOT_FOUND"


class AgentNotFound(SandboxError):
    """The account has no agent of this id."""

    code = "AGENT_NOT_FOUND"


class ExchangeNotFound(SandboxError):
    """There are no candles of an exchange of this name."""

    code = "EXCHANGE_NOT_FOUND"


class KeyNotFound(SandboxError):
    """There is no API key of this id."""

    code = "KEY_NOT_FOUND"


class SessionNotFound(SandboxError):
    """The account has no session of this id."""

    code = "SESSION_NOT_FOUND"


class JobNotFound(SandboxError):
    """The account has no job of this id."""

    code = "NOT_FOUND"


class StrategyNotFound(SandboxError):
    """The account has no stored strategy of this id."""

    code = "STRATEGY_NOT_FOUND"


class BacktestNotFound(SandboxError):
    """The account has no backtest of this id."""

    code = "BACKTEST_NOT_FOUND"
