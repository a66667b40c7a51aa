"""The errors of runs that are caused by neither the strategy nor the candles."""

from candlestep.data.records.jobs import RunError, RunOutcome

CANCELLED = RunError("CANCELLED", "the run was cancelled")
FAULT = RunError("INTERNAL_ERROR", "the server failed to do this run; its log has the details")
OUT_OF_MEMORY = RunError(
    "OUT_OF_MEMORY",
    "the run needed more memory than it is allowed; use fewer symbols, a shorter period or a"
    " coarser timeframe, or keep less data in the strategy",
)


def too_slow(seconds: float) -> RunError:
    """Return the error of a run that took longer than ``seconds``, its limit."""
    return RunError(
        "RUN_TIMEOUT",
        f"the run took longer than {seconds:g} seconds, its limit; use fewer symbols, a shorter"
        " period or a coarser timeframe, or do less work in the strategy for each candle",
    )


def worker_failed(how: str, attempts: int) -> RunError:
    """Return the error of a run whose worker died in each of its attempts."""
    return RunError(
        "WORKER_FAILED",
        f"the process that did the run ended unexpectedly, {attempts} times: {how}; submit it"
        " again, and report it if it fails again",
    )


def wears_out(outcome: RunOutcome) -> bool:
    """Return whether the worker should be replaced after a run with this outcome."""
    return outcome.error is not None and outcome.error.code in (OUT_OF_MEMORY.code, FAULT.code)
