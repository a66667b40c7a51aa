"""The jobs that backtests are run by: what each was asked for, what came of it, and its end."""

from contextlib import suppress
from typing import Any

import msgspec

from candlestep.api.services import Services
from candlestep.data.records.backtests import BacktestRecord, BacktestRun
from candlestep.data.records.jobs import JobRecord
from candlestep.sandbox import InvalidState


class StoredSweep(msgspec.Struct, frozen=True):
    """What is kept of a sweep, whose runs are in the order of their backtests."""

    rank_metric: str
    backtest_ids: list[str]


class _StoredRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the queue keeps of a request: one of the two."""

    backtest: BacktestRecord | None = None
    sweep: StoredSweep | None = None


def backtest_request(record: BacktestRecord) -> dict[str, Any]:
    """What is kept with a job of a backtest: all but what an earlier run has made of it."""
    asked = msgspec.structs.replace(
        record,
        set_status=None,
        set_metrics=None,
        hides_trades=False,
        hides_equity=False,
        run=None,
    )
    return _kept(_StoredRequest(backtest=asked))


def sweep_request(sweep: StoredSweep) -> dict[str, Any]:
    """What is kept with a job of a sweep."""
    return _kept(_StoredRequest(sweep=sweep))


def swept(job: JobRecord) -> StoredSweep | None:
    """The sweep that a job of backtests is of; None if it is of one backtest."""
    return msgspec.convert(job.request, _StoredRequest).sweep


def executed(job: JobRecord) -> BacktestRecord:
    """The backtest that a job of one run was submitted for, as the job left it."""
    asked = msgspec.convert(job.request, _StoredRequest).backtest
    assert asked is not None
    return msgspec.structs.replace(asked, changed_at=job.submitted_at, run=BacktestRun.of(job, 0))


async def cancel_if_running(services: Services, account_id: str, job_id: str) -> None:
    """Cancel a job, unless it has ended in the meantime."""
    with suppress(InvalidState):
        await services.jobs.cancel(account_id, job_id)


def _kept(request: _StoredRequest) -> dict[str, Any]:
    kept: dict[str, Any] = msgspec.to_builtins(request)
    return kept
