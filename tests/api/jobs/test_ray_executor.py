"""Jobs on a real Ray of two worker processes: the same runs, the same outcomes."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from candlestep.data.records.jobs import JobRecord, RunOutcome, RunSpec
from candlestep.data.run_files.run_files import Payload, run_directory
from tests.support.api_client import sample_home
from tests.support.job_queue import SLOW, STUCK, WRONG, Jobs, jobs, read_rows, spec

pytest.importorskip("ray", reason="Ray is not installed: pip install 'candlestep[ray]'")
from candlestep.api.jobs.ray_executor import RayExecutor

MINUTE = 60_000
PAYLOADS: tuple[Payload, ...] = ("equity", "trades", "signals")
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
    made = Jobs(home, RayExecutor.connect("", 2, run_seconds=60, run_memory=1 << 30))
    loop.run(made.queue.recover())
    yield made
    loop.run(made.close())


async def ended(made: Jobs, *specs: RunSpec) -> JobRecord:
    job = await made.queue.submit(made.ann, "backtests", specs, {})
    record = await made.queue.wait(made.ann, job.job_id, 60)
    assert record.has_ended
    return record


def plain(outcome: RunOutcome | None) -> RunOutcome:
    """An outcome without what differs from run to run."""
    assert outcome is not None
    return msgspec.structs.replace(outcome, seconds=0.0, host="")


def test_a_sweep_comes_out_as_on_this_machine(
    loop: asyncio.Runner, on_ray: Jobs, tmp_path: Path
) -> None:
    there = loop.run(ended(on_ray, *SWEEP, spec(WRONG)))

    async def locally() -> tuple[JobRecord, list[object]]:
        async with jobs(sample_home(tmp_path / "home")) as made:
            record = await ended(made, *SWEEP, spec(WRONG))
            return record, files(made.home, record)

    here, files_here = loop.run(locally())
    assert there.status == here.status == "done"
    assert [plain(each) for each in there.outcomes] == [plain(each) for each in here.outcomes]
    assert files(on_ray.home, there) == files_here


def files(home: Path, record: JobRecord) -> list[object]:
    return [
        read_rows(run_directory(home, record.job_id, number), name)
        for number in range(len(SWEEP))
        for name in PAYLOADS
    ]


@pytest.mark.parametrize("program", [SLOW, STUCK], ids=["slow", "stuck"])
def test_a_run_on_ray_is_cancelled_within_a_second(
    loop: asyncio.Runner, on_ray: Jobs, program: dict[str, object]
) -> None:
    async def check() -> None:
        queue, ann = on_ray.queue, on_ray.ann
        job = await queue.submit(ann, "backtests", [spec(program, interval=MINUTE)], {})
        await asyncio.sleep(1)
        assert (await queue.get(ann, job.job_id)).status == "running"
        began = time.perf_counter()
        assert (await queue.cancel(ann, job.job_id)).status == "cancelled"
        assert time.perf_counter() - began < 1
        assert (await ended(on_ray, spec())).status == "done"

    loop.run(check())
