"""A home that an earlier version wrote is served as that version served it.

The earlier version wrote ``fixtures/home``, with rows in every table and a journal of every kind.
``contract.json`` holds its answers about that home, and its answers to commands on a copy of it.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from candlestep import __version__
from candlestep.api.routes.backtests.figures import HIGHER_IS_BETTER
from tests.support.api_client import wait_for
from tests.support.command_line import candlestep
from tests.support.server_process import RunningServer, running

FIXTURES = Path(__file__).parent / "fixtures"
EARLIER = "0.1.0"
"""The version that wrote the home."""
VOLATILE = {"timestamp", "request_id"}
"""Fields whose values differ from one answer to the next."""
UNSAVED = {"completed_at", "started_at", "finished_at"}
"""Times of events that happen only when the home is served: jobs and unsaved sessions that end."""
ADDED = {
    "warnings", "coverage", "allow_gaps", "capped_fills", "covered_from", "covered_to",
    "coveredFrom", "coveredTo", "funding_gaps", "direction",
}  # fmt: skip
"""Fields that answers have had since; the contract has none of these names."""
LONG = 6_000
"""Characters of an answer; of longer ones the contract holds only a digest."""
NEW_INTERVALS = {"3m", "30m", "2h", "6h", "8h", "12h", "1w"}
"""Intervals that the earlier version did not have."""
DIGITS = 12
"""Significant digits of a float that are the same on every machine."""

Json = dict[str, Any]


def plain(value: Any) -> Any:
    """Return an answer without its volatile parts: times, request ids and error messages.

    Intervals and datasets that the earlier version did not have are left out of lists.
    """
    if isinstance(value, dict):
        volatile = VOLATILE
        if value.get("success") is False:
            volatile = VOLATILE | {
                "message",
                "error",
            }  # The error is the code, or an object with it.
        return {name: plain(part) for name, part in value.items() if name not in volatile}
    if isinstance(value, list):
        return [plain(part) for part in value if not is_of_new_interval(part)]
    return value


def is_of_new_interval(part: Any) -> bool:
    """Return whether a member of a list is a new interval, or a dataset of one."""
    if isinstance(part, dict):
        return "dataset_id" in part and part.get("interval") in NEW_INTERVALS
    return isinstance(part, str) and part in NEW_INTERVALS


def as_it_was(value: Any) -> Any:
    """Return an answer without the fields that have been added since."""
    if isinstance(value, dict):
        return {name: as_it_was(part) for name, part in value.items() if name not in ADDED}
    return [as_it_was(part) for part in value] if isinstance(value, list) else value


def without_messages(recording: Json) -> Json:
    """Leave out the digest of a recording's lines, which contain the messages of refusals."""
    return {name: part for name, part in recording.items() if name != "sha256"}


def rounded(number: str | float) -> float:
    """Return a float without its last digits, which depend on the machine."""
    return float(f"{float(number):.{DIGITS}g}")


def body_of(answer: httpx.Response) -> Any:
    """Return the content of an answer in the form that the contract holds."""
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind == "application/json":
        answered = answer.text.replace(__version__, EARLIER)
        body = plain(as_it_was(json.loads(answered, parse_float=rounded)))
        text = json.dumps(body, sort_keys=True)
        return body if len(text) <= LONG else {"sha256": sha256(text.encode()).hexdigest()}
    if kind == "application/x-ndjson":
        return recording_of(answer.content)
    if kind == "application/vnd.apache.parquet":
        return rows_of(answer.content)
    return answer.text


def recording_of(content: bytes) -> Json:
    """Summarise a recording: its start, and digests of its lines and of all answers."""
    first, _, rest = content.partition(b"\n")
    start = json.loads(first)
    last = json.loads(rest.splitlines()[-1]) if rest else start
    added_or_other = ("engine", "crc", "days")
    return {
        "start": {name: value for name, value in start.items() if name not in added_or_other},
        "lines": rest.count(b"\n"),
        "sha256": sha256(rest).hexdigest(),
        "digest": last["digest"],
    }


def rows_of(content: bytes) -> Any:
    """Summarise a Parquet file: its columns, and the number and a digest of its rows."""
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, duckdb.connect() as connection:
        file.write(content)
        file.flush()
        query = f"SELECT * FROM read_parquet('{file.name}')"
        described = connection.execute(f"DESCRIBE {query}").fetchall()
        columns = [list(column[:2]) for column in described]
        rows = [
            [rounded(value) if isinstance(value, float) else value for value in row]
            for row in connection.execute(query).fetchall()
        ]
    return {
        "columns": columns,
        "rows": len(rows),
        "sha256": sha256(repr(rows).encode()).hexdigest(),
    }


def without_ends(value: Any) -> Any:
    """Return an answer without the times of events that happened while it was served."""
    if isinstance(value, dict):
        return {name: without_ends(part) for name, part in value.items() if name not in UNSAVED}
    return [without_ends(part) for part in value] if isinstance(value, list) else value


def copied(directory: Path) -> Path:
    """Copy the home, so that the fixture stays unchanged, for its user alone."""
    home = Path(shutil.copytree(FIXTURES / "home", directory / "home"))
    for path in (home, *home.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return home


@pytest.fixture(scope="module")
def contract() -> Json:
    contract: Json = json.loads((FIXTURES / "contract.json").read_text())
    return contract


class Served:
    """A server on a copy of the home, with a client for each account of the contract."""

    def __init__(self, server: RunningServer, contract: Json) -> None:
        self.server = server
        self._clients = {name: server.client(key) for name, key in contract["keys"].items()}
        self._clients["nobody"] = server.client()

    def client(self, account: str) -> httpx.Client:
        return self._clients[account]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@pytest.fixture(scope="module")
def served(contract: Json, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a copy for tests that only read, and finish the job that waits in it."""
    with running(copied(tmp_path_factory.mktemp("read")), *contract["serve"]) as server:
        served = Served(server, contract)
        wait_for(
            lambda: served.client("carol").get(contract["taken_up"]).json(),
            lambda job: job["status"] == "done",
        )
        yield served
        served.close()


@pytest.fixture(scope="module")
def continued(contract: Json, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a copy for tests that change sessions."""
    with running(copied(tmp_path_factory.mktemp("continued")), *contract["serve"]) as server:
        served = Served(server, contract)
        yield served
        served.close()


def test_everything_is_read_as_it_was(served: Served, contract: Json) -> None:
    differing = []
    for read in contract["reads"]:
        answer = served.client(read["account"]).get(read["path"])
        actual, expected = (
            [answer.status_code, body_of(answer)],
            [read["status"], plain(read["body"])],
        )
        if read["account"] == "carol":
            actual, expected = without_ends(actual), without_ends(expected)
        if actual != expected:
            differing.append((read["account"], read["path"], expected, actual))
    assert not differing, f"{len(differing)} of {len(contract['reads'])}, first {differing[0]}"


def test_backtests_compare_as_they_did(served: Served, contract: Json) -> None:
    compared = contract["compared"]
    answer = served.client("ann").post("/api/v1/backtests/compare", json=compared["body"])
    body = answer.json()
    for key, diff in body["metric_diff"].items():
        diff["higher_is_better"] = HIGHER_IS_BETTER[key]  # Null, where neither direction is.
    assert body_of(httpx.Response(200, json=body)) == compared["answer"]


def test_sessions_go_on_as_they_did(continued: Served, contract: Json) -> None:
    """Journals replay, known keys get the stored answers, and new commands the same answers."""
    for session in contract["sessions"]:
        name, client = session["name"], continued.client(session["account"])
        path = f"/api/v1/backtest/{session['session_id']}"
        before = client.get(f"{path}/status").json()
        assert [before["status"], before["current_step"]] == [
            session["status"],
            session["current_step"],
        ], name
        if session["recording"] is not None:
            recording = recording_of(client.get(f"{path}/recording").content)
            assert recording == session["recording"], name
        for number, command in enumerate(session["commands"]):
            key = {} if command["key"] is None else {"Idempotency-Key": command["key"]}
            answer = client.request(
                command["method"], command["path"], json=command["body"], headers=key
            )
            actual = [answer.status_code, body_of(answer)]
            assert actual == [command["status"], plain(command["answer"])], (
                name,
                number,
                command["path"],
            )
        after, expected = client.get(f"{path}/status").json(), session["after"]
        for field in ("status", "current_step", "final_equity"):
            assert after[field] == expected[field], (name, field)
        if expected["recording"] is not None:
            recording = recording_of(client.get(f"{path}/recording").content)
            assert without_messages(recording) == without_messages(expected["recording"]), name


@pytest.mark.parametrize("where", ["library", "server"])
def test_recordings_replay(where: str, served: Served, contract: Json, tmp_path: Path) -> None:
    """A store still holds the candles of each recording; a server uses only today's candles."""
    arguments = ["--url", served.server.url, "--key", contract["keys"]["ann"]]
    if where == "library":
        arguments = ["--home", str(copied(tmp_path))]
    for recording in contract["recordings"]:
        file = FIXTURES / "recordings" / recording["file"]
        summary = recording_of(file.read_bytes())
        assert summary == {name: recording[name] for name in summary}, file.name
        code = 0 if where == "library" else recording["code_on_todays_candles"]
        replayed = candlestep("replay", file, *arguments)
        assert (replayed.code, replayed.err) == (code, ""), (file.name, replayed.out)


def test_the_command_line_says_what_it_did(contract: Json, tmp_path: Path) -> None:
    home = copied(tmp_path)
    for command in contract["command_line"]:
        done = candlestep(*command["arguments"], "--home", home)
        assert [done.code, done.out] == [command["code"], command["out"]], command["arguments"]
