"""The requests that are stored with the jobs of backtests."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from candlestep.api.routes.backtests.tasks import (
    StoredSweep,
    backtest_of,
    backtest_request,
    sweep_of,
    sweep_request,
)
from candlestep.data.records.backtests import BacktestRecord, BacktestRun
from candlestep.data.records.jobs import JobRecord, RunError, RunOutcome, RunSpec

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
"""Fields that stored jobs may have next to those of a backtest's record."""


def job(request: dict[str, Any]) -> JobRecord:
    """Return a job that has ended, as it is read back from the store."""
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


@pytest.mark.parametrize("others", [{}, WITHOUT_A_RUN])
def test_a_job_keeps_its_backtest_without_what_an_earlier_run_made_of_it(
    others: dict[str, Any],
) -> None:
    request = backtest_request(EARLIER)
    ended = job({"backtest": request["backtest"] | others})

    backtest = backtest_of(ended)

    assert sweep_of(ended) is None
    run = BacktestRun.of(ended, 0)
    assert backtest == msgspec.structs.replace(RECORD, changed_at=10, run=run)
    assert (backtest.status, backtest.error, backtest.updated_at) == ("failed", "it broke", 12)


def test_a_job_of_a_sweep_keeps_what_it_is_ranked_by_and_its_backtests() -> None:
    sweep = StoredSweep("perf_cagr", ["b1", "b2"])

    assert sweep_request(sweep) == {
        "sweep": {"rank_metric": "perf_cagr", "backtest_ids": ["b1", "b2"]}
    }
    assert sweep_of(job(sweep_request(sweep))) == sweep
