"""What a home of an earlier version holds is answered as that version answered it.

``fixtures/home`` was written by it, with every table filled and every kind of journal;
``contract.json`` has what it said of it, and what it answered to commands on a copy.
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

from tests.support.api_client import wait_for
from tests.support.command_line import candlestep
from tests.support.server_process import RunningServer, running

FIXTURES = Path(__file__).parent / "fixtures"
VOLATILE = {"timestamp", "request_id"}
"""Fields of answers that are others each time."""
UNSAVED = {"completed_at", "started_at", "finished_at"}
"""Those of what ends only when the home is served: a job, and sessions that nobody had saved."""
LONG = 6_000
"""Characters of an answer of which only a digest is kept."""
DIGITS = 12
"""Of a float, so many are the same on every machine."""

Json = dict[str, Any]


def plain(value: Any) -> Any:
    """Return an answer without what varies: times, request ids and the words of errors."""
    if isinstance(value, dict):
        volatile = VOLATILE | {"message"} if value.get("success") is False else VOLATILE
        return {name: plain(part) for name, part in value.items() if name not in volatile}
    return [plain(part) for part in value] if isinstance(value, list) else value


def without_words(recording: Json) -> Json:
    """Return a recording without the digest of its lines, which have the words of refusals."""
    return {name: part for name, part in recording.items() if name != "sha256"}


def rounded(number: str | float) -> float:
    """Return a float without its last digits, which depend on the machine."""
    return float(f"{float(number):.{DIGITS}g}")


def body_of(answer: httpx.Response) -> Any:
    """Return what an answer says, as it is kept in the contract."""
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind == "application/json":
        body = plain(json.loads(answer.text, parse_float=rounded))
        text = json.dumps(body, sort_keys=True)
        return body if len(text) <= LONG else {"sha256": sha256(text.encode()).hexdigest()}
    if kind == "application/x-ndjson":
        return recording_of(answer.content)
    if kind == "application/vnd.apache.parquet":
        return rows_of(answer.content)
    return answer.text


def recording_of(content: bytes) -> Json:
    """Return what a recording comes to: its start, and digests of its lines and of all answers."""
    first, _, rest = content.partition(b"\n")
    start = json.loads(first)
    last = json.loads(rest.splitlines()[-1]) if rest else start
    return {
        "start": {name: each for name, each in start.items() if name not in ("engine", "crc")},
        "lines": rest.count(b"\n"),
        "sha256": sha256(rest).hexdigest(),
        "digest": last["digest"],
    }


def rows_of(content: bytes) -> Any:
    """Return the columns of a Parquet file, how many rows it has, and a digest of these."""
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, duckdb.connect() as connection:
        file.write(content)
        file.flush()
        query = f"SELECT * FROM read_parquet('{file.name}')"
        described = connection.execute(f"DESCRIBE {query}").fetchall()
        columns = [list(column[:2]) for column in described]
        rows = [
            [rounded(each) if isinstance(each, float) else each for each in row]
            for row in connection.execute(query).fetchall()
        ]
    return {
        "columns": columns,
        "rows": len(rows),
        "sha256": sha256(repr(rows).encode()).hexdigest(),
    }


def without_ends(value: Any) -> Any:
    """Return an answer without the times at which something ended just now."""
    if isinstance(value, dict):
        return {name: without_ends(each) for name, each in value.items() if name not in UNSAVED}
    return [without_ends(each) for each in value] if isinstance(value, list) else value


def copied(directory: Path) -> Path:
    """Copy the home, which is not to be changed."""
    return Path(shutil.copytree(FIXTURES / "home", directory / "home"))


@pytest.fixture(scope="module")
def contract() -> Json:
    found: Json = json.loads((FIXTURES / "contract.json").read_text())
    return found


class Served:
    """A server on a copy of the home, and a client of it for each key of the contract."""

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
    """A server for what only reads; the job that waits in the home is done."""
    with running(copied(tmp_path_factory.mktemp("read")), *contract["serve"]) as server:
        found = Served(server, contract)
        wait_for(
            lambda: found.client("carol").get(contract["taken_up"]).json(),
            lambda job: job["status"] == "done",
        )
        yield found
        found.close()


@pytest.fixture(scope="module")
def continued(contract: Json, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server for what changes sessions."""
    with running(copied(tmp_path_factory.mktemp("continued")), *contract["serve"]) as server:
        found = Served(server, contract)
        yield found
        found.close()


def test_everything_is_read_as_it_was(served: Served, contract: Json) -> None:
    differing = []
    for read in contract["reads"]:
        answer = served.client(read["account"]).get(read["path"])
        found, expected = (
            (answer.status_code, body_of(answer)),
            (read["status"], plain(read["body"])),
        )
        if read["account"] == "carol":
            found, expected = without_ends(list(found)), without_ends(list(expected))
        if found != expected:
            differing.append((read["account"], read["path"], expected, found))
    assert not differing, f"{len(differing)} of {len(contract['reads'])}, first {differing[0]}"


def test_backtests_compare_as_they_did(served: Served, contract: Json) -> None:
    compared = contract["compared"]
    answer = served.client("ann").post("/api/v1/backtests/compare", json=compared["body"])
    assert body_of(answer) == compared["answer"]


def test_sessions_go_on_as_they_did(continued: Served, contract: Json) -> None:
    """Their journals are followed, keys are answered again, and commands as they were then."""
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
            found = [answer.status_code, body_of(answer)]
            assert found == [command["status"], plain(command["answer"])], (
                name,
                number,
                command["path"],
            )
        after, expected = client.get(f"{path}/status").json(), session["after"]
        assert {each: after[each] for each in ("status", "current_step", "final_equity")} == {
            each: expected[each] for each in ("status", "current_step", "final_equity")
        }, name
        if expected["recording"] is not None:
            recording = recording_of(client.get(f"{path}/recording").content)
            assert without_words(recording) == without_words(expected["recording"]), name


@pytest.mark.parametrize("where", ["library", "server"])
def test_recordings_replay(where: str, served: Served, contract: Json, tmp_path: Path) -> None:
    """On a store the candles of the recording are found; a server has those of today alone."""
    arguments = ["--url", served.server.url, "--key", contract["keys"]["ann"]]
    if where == "library":
        arguments = ["--home", str(copied(tmp_path))]
    for recording in contract["recordings"]:
        file = FIXTURES / "recordings" / recording["file"]
        found = recording_of(file.read_bytes())
        assert found == {name: recording[name] for name in found}, file.name
        code = 0 if where == "library" else recording["code_on_todays_candles"]
        done = candlestep("replay", file, *arguments)
        assert (done.code, done.err) == (code, ""), (file.name, done.out)


def test_the_command_line_says_what_it_did(contract: Json, tmp_path: Path) -> None:
    home = copied(tmp_path)
    for told in contract["command_line"]:
        done = candlestep(*told["arguments"], "--home", home)
        assert [done.code, done.out] == [told["code"], told["out"]], told["arguments"]
