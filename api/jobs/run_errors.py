"""What a run can fail of beside what its strategy and its candles say, in words for its user."""

from candlestep.data.records.jobs import RunError, RunOutcome

CANCELLED = RunError("CANCELLED", "the run was cancelled")
FAULT = RunError("INTERNAL_ERROR", "the server failed at this run; its log says how")
OUT_OF_MEMORY = RunError(
    "OUT_OF_MEMORY",
    "the run needed more memory than a run may have; take fewer symbols, a shorter time or a coarser"
    " timeframe, or have the strategy keep less",
)


def too_slow(seconds: float) -> RunError:
    """Of a run that takes longer than so many seconds."""
    return RunError(
        "RUN_TIMEOUT",
        f"the run took longer than {seconds:g} seconds, which is all that a run may take; take"
        " fewer symbols, a shorter time or a coarser timeframe, or have the strategy do less at"
        " each candle",
    )


def worker_failed(how: str, attempts: int) -> RunError:
    """Of a run whose worker has died each time that it was tried."""
    return RunError(
        "WORKER_FAILED",
        f"the process that did the run ended unexpectedly, {attempts} times: {how}; submit it"
        " again, and if it fails again, report it",
    )


def wears_out(outcome: RunOutcome) -> bool:
    """Whether a worker is not what it was after such a run, and is to be replaced."""
    return outcome.error is not None and outcome.error.code in (OUT_OF_MEMORY.code, FAULT.code)
