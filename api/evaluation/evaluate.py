"""The runs of an evaluation, some at a time; what is done is kept, and not done again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import msgspec

from candlestep.api.evaluation.agents import run_agent
from candlestep.api.evaluation.judge import Judge, Outcome
from candlestep.api.evaluation.plan import Plan, Run
from candlestep.api.evaluation.statistics import Findings, findings
from candlestep.data.errors import NOT_JSON, UnreadableFile
from candlestep.sandbox import SandboxError

FILE_NAME = "evaluation.json"
"""The file of outcomes in the folder of an evaluation."""


class Evaluation(msgspec.Struct, frozen=True):
    """The outcomes of an evaluation, and what they say."""

    agent: str
    has_keys: bool
    """True if the agent had a key that shows it nothing but its session."""
    outcomes: list[Outcome]
    findings: Findings


class _Kept(msgspec.Struct):
    """The contents of the file, as far as they are read again."""

    outcomes: list[Outcome] = []
    has_keys: bool = True


def evaluate(
    plan: Plan, judge: Judge, folder: Path, note: Callable[[int, int], None]
) -> Evaluation:
    """Run what has not been run, write the file after each run, and return all outcomes.

    ``note`` is told how many runs are done, of how many. Raises ``RefusedByServer`` and
    ``StorageUnavailable`` after the runs under way have ended; what is done is kept.
    """
    runs = list(plan.runs())
    wanted = {run.key for run in runs}
    path = folder / FILE_NAME
    kept = _read(path)
    done = {one.key: one for one in kept.outcomes if one.key in wanted and one.error is None}
    has_keys = kept.has_keys

    def so_far() -> Evaluation:
        outcomes = [done[run.key] for run in runs if run.key in done]
        return Evaluation(plan.agent.name, has_keys, outcomes, findings(outcomes))

    missing = [run for run in runs if run.key not in done]
    note(len(done), len(runs))
    with ThreadPoolExecutor(plan.agent.at_once) as pool:
        futures = [pool.submit(_run, plan, judge, run) for run in missing]
        try:
            for future in as_completed(futures):
                outcome, had_key = future.result()
                done[outcome.key] = outcome
                has_keys = has_keys and had_key
                _write(path, so_far())
                note(len(done), len(runs))
        except (SandboxError, KeyboardInterrupt):
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return so_far()


def _run(plan: Plan, judge: Judge, run: Run) -> tuple[Outcome, bool]:
    """Let the agent trade one session; return what came of it, and whether it had a key."""
    access = judge.start(run)
    error = run_agent(plan.agent, plan.folder, access)
    return judge.end(run, access, error), access.key is not None


def _read(path: Path) -> _Kept:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept)
    except FileNotFoundError:
        return _Kept()
    except (OSError, *NOT_JSON) as error:
        raise UnreadableFile(str(path), f"it is not of an evaluation ({error})") from None


def _write(path: Path, evaluation: Evaluation) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(evaluation), indent=1) + b"\n")
    temporary.replace(path)
