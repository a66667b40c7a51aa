"""Jobs on a real Ray of two worker processes: the same runs, the same outcomes."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from candlestep.data.records.jobs import JobRecord, RunOutcome, RunSpec
from candlestep.data.run_files.run_files import RunFileName, run_directory
from tests.support.api_client import sample_home
from tests.support.job_queue import (
    MINUTE,
    SLOW,
    STUCK,
    WRONG,
    Jobs,
    ended,
    jobs,
    read_rows,
    spec,
    submitted,
)
from tests.support.patience import PATIENCE

pytest.importorskip("ray", reason="Ray is not installed: pip install 'candlestep[ray]'")
from candlestep.api.jobs.ray_executor import RayExecutor

RUN_FILES: tuple[RunFileName, ...] = ("equity", "trades", "signals")
SWEEP = [
    spec(
        {"template": "tpl_sma_cross", "parameters": {"fast": fast, "slow": 40}}, store_signals=True
    )
    for fast in (3, 5, 8, 13)
]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def on_ray(loop: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    home = sample_home(tmp_path_factory.mktemp("ray") / "home")
    on_ray = Jobs(home, RayExecutor.connect("", 2, run_seconds=2 * PATIENCE, run_memory=1 << 30))
    loop.run(on_ray.queue.recover())
    yield on_ray
    loop.run(on_ray.close())


async def run(jobs: Jobs, *specs: RunSpec) -> JobRecord:
    """Submit a job of these runs, and return it as it ended."""
    return await ended(jobs, await submitted(jobs, *specs))


def plain(outcome: RunOutcome | None) -> RunOutcome:
    """Return an outcome without the fields that differ from run to run."""
    assert outcome is not None
    return msgspec.structs.replace(outcome, seconds=0.0, host="")


def test_a_sweep_comes_out_as_on_this_machine(
    loop: asyncio.Runner, on_ray: Jobs, tmp_path: Path
) -> None:
    ray_record = loop.run(run(on_ray, *SWEEP, spec(WRONG)))

    async def locally() -> tuple[JobRecord, list[object]]:
        async with jobs(sample_home(tmp_path / "home")) as local:
            record = await run(local, *SWEEP, spec(WRONG))
            return record, files(local.home, record)

    local_record, local_files = loop.run(locally())
    assert ray_record.status == local_record.status == "done"
    assert list(map(plain, ray_record.outcomes)) == list(map(plain, local_record.outcomes))
    assert files(on_ray.home, ray_record) == local_files


def files(home: Path, record: JobRecord) -> list[object]:
    return [
        read_rows(run_directory(home, record.job_id, number), name)
        for number in range(len(SWEEP))
        for name in RUN_FILES
    ]


@pytest.mark.parametrize("program", [SLOW, STUCK], ids=["slow", "stuck"])
def test_a_run_on_ray_is_cancelled_and_another_takes_its_place(
    loop: asyncio.Runner, on_ray: Jobs, program: dict[str, object]
) -> None:
    async def check() -> None:
        queue, ann = on_ray.queue, on_ray.ann
        job = await queue.submit(ann, "backtests", [spec(program, interval=MINUTE)], {})
        await asyncio.sleep(1)
        assert (await queue.get(ann, job.job_id)).status == "running"
        assert (await queue.cancel(ann, job.job_id)).status == "cancelled"
        assert (await run(on_ray, spec())).status == "done"

    loop.run(check())
