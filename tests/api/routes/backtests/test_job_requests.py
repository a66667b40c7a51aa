"""What is kept with the jobs of backtests, and how one is taken back."""

import asyncio
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from candlestep.api.routes.backtests.job_requests import (
    StoredSweep,
    backtest_request,
    cancel_if_running,
    executed,
    sweep_request,
    swept,
)
from candlestep.api.services import Services
from candlestep.data.records.backtests import BacktestRecord, BacktestRun
from candlestep.data.records.jobs import JobRecord, RunError, RunOutcome, RunSpec
from candlestep.sandbox import InvalidState, SandboxError

SPEC = RunSpec(
    strategy={},
    pairs=["BTCUSDT"],
    start_time=0,
    end_time=60_000,
    interval=60_000,
    starting_balance="1",
)
FAILED = RunOutcome(error=RunError("X", "it broke"))
RECORD = BacktestRecord(
    strategy_id="s1",
    engine="sandbox",
    initial_capital=Decimal("100000.1"),
    commission=Decimal("0.0005"),
    slippage=Decimal(0),
    config={"symbol": "BTCUSDT"},
    backtest_id="b1",
    account_id="ann",
    number=3,
    created_at=1,
    changed_at=2,
)
EARLIER = msgspec.structs.replace(
    RECORD,
    set_status="failed",
    set_metrics={"own": 0.1},
    hides_trades=True,
    hides_equity=True,
    run=BacktestRun(
        job_id="bt_0",
        run_number=0,
        job_status="failed",
        finished_at=3,
        job_error=None,
        files_are_deleted=False,
        outcome=FAILED,
    ),
)
WITHOUT_A_RUN: dict[str, Any] = {
    "job_id": None,
    "run_number": None,
    "job_status": None,
    "finished_at": None,
    "job_error": None,
    "files_are_deleted": False,
    "outcome": None,
}
"""What the jobs in a store may say of a backtest beside the fields of its record."""


def job(request: dict[str, Any]) -> JobRecord:
    """A job that has ended, as it is read back from the store."""
    return JobRecord(
        job_id="bt_1",
        account_id="ann",
        number=1,
        origin="backtests",
        status="failed",
        progress=1,
        attempts=1,
        request=msgspec.json.decode(msgspec.json.encode(request)),
        submitted_at=10,
        started_at=11,
        finished_at=12,
        error_code=None,
        error_message=None,
        files_deleted_at=None,
        specs=[SPEC],
        outcomes=[FAILED],
    )


def server_whose_jobs_refuse(refusal: SandboxError) -> Services:
    async def cancel(account_id: str, job_id: str) -> None:
        raise refusal

    return cast(Services, SimpleNamespace(jobs=SimpleNamespace(cancel=cancel)))


@pytest.mark.parametrize("beside", [{}, WITHOUT_A_RUN])
def test_a_job_keeps_its_backtest_without_what_an_earlier_run_made_of_it(
    beside: dict[str, Any],
) -> None:
    request = backtest_request(EARLIER)
    ended = job({"backtest": request["backtest"] | beside})

    found = executed(ended)

    assert swept(ended) is None
    run = BacktestRun.of(ended, 0)
    assert found == msgspec.structs.replace(RECORD, changed_at=10, run=run)
    assert (found.status, found.error, found.updated_at) == ("failed", "it broke", 12)


def test_a_job_of_a_sweep_keeps_what_it_is_ranked_by_and_its_backtests() -> None:
    asked = StoredSweep("perf_cagr", ["b1", "b2"])

    assert sweep_request(asked) == {
        "sweep": {"rank_metric": "perf_cagr", "backtest_ids": ["b1", "b2"]}
    }
    assert swept(job(sweep_request(asked))) == asked


def test_a_job_that_has_ended_in_the_meantime_need_not_be_cancelled() -> None:
    ended = server_whose_jobs_refuse(InvalidState("the job has ended", status="done"))
    asyncio.run(cancel_if_running(ended, "ann", "bt_1"))

    other = server_whose_jobs_refuse(SandboxError("it could not be written"))
    with pytest.raises(SandboxError):
        asyncio.run(cancel_if_running(other, "ann", "bt_1"))
