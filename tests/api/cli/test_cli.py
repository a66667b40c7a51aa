"""The command line: each command alone, and beside a server that has the store open."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import duckdb
import httpx
import pytest

from candlestep.api.admin.operation import Progress
from candlestep.api.admin.running_server import SERVER_FILE
from candlestep.api.cli import main as cli
from candlestep.api.cli.terminal import ProgressBar, table
from candlestep.api.http.auth import TOKEN_HEADER as TOKEN_HEADER_BYTES
from candlestep.data.imports import archive
from candlestep.data.store.database import FILE_NAME as STORE_NAME
from candlestep.data.store.database import Store
from tests.support.archive_server import Archive
from tests.support.candle_files import START, csv_text, rows, write, write_json
from tests.support.command_line import ENVIRONMENT, candlestep, candlestep_process
from tests.support.server_process import RunningServer, running

TOKEN_HEADER = TOKEN_HEADER_BYTES.decode()
MONTH = "2024-01"
HEADER = "timestamp,open,high,low,close,volume\n"
BAD_ROW = "2024-01-01T00:01:00Z,100,90,95,100,1\n"
GOOD_ROW = "2024-01-01T00:00:00Z,100,101,99,100,1\n"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CANDLESTEP_")]:
        monkeypatch.delenv(name)


@pytest.fixture(params=["alone", "beside"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A home, once without a server and once with one that runs on it."""
    with ExitStack() as stack:
        if request.param == "beside":
            stack.enter_context(running(tmp_path / "home"))
        yield tmp_path / "home"


@pytest.fixture
def archive_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setattr(archive, "RETRY_WAITS", (0.0,))
    server = Archive(tmp_path / "archive")
    yield server
    server.close()


def listed(home: Path) -> dict[str, int]:
    """The candles of each symbol, by `data list`."""
    done = candlestep("data", "list", "--json", "--home", home)
    assert done.code == 0
    return {series["symbol"]: series["rows"] for series in json.loads(done.out)}


def imports_of(home: Path) -> int:
    """How many imports have changed a store that nobody has open."""
    store = Store.open(home)
    try:
        found: int = store.rows("SELECT count(*) FROM imports")[0][0]
        return found
    finally:
        store.close()


def test_candles_are_imported_and_listed(home: Path, tmp_path: Path) -> None:
    empty = candlestep("data", "list", "--home", home)
    assert (empty.code, empty.err) == (0, "")
    assert "no candles yet" in empty.out
    assert f"candlestep data sample --home {home}" in empty.out

    minutes = write(
        tmp_path / "BTCUSDT-1m.csv.gz", csv_text([*rows(100), *rows(9, START + 6_300_000)])
    )
    hours = write_json(tmp_path / "eth.json", rows(48, interval=3_600_000))
    done = candlestep("data", "import", minutes, "--home", home)
    assert (done.code, done.err) == (0, "")
    header, line, *_ = done.out.splitlines()
    assert header.split() == [
        "symbol", "interval", "from", "(UTC)", "to", "(UTC)", "rows", "new", "replaced", "gaps",
        "source",
    ]  # fmt: skip
    assert line.split() == [
        "BTCUSDT", "1m", "2024-01-01", "00:00", "2024-01-01", "01:54", "109", "109", "0", "1",
        "BTCUSDT-1m.csv.gz",
    ]  # fmt: skip
    assert f"`candlestep serve --home {home}`" in done.out
    done = candlestep(
        "data", "import", hours, "--symbol", "eth/usdt", "--exchange", "Kraken", "--home", home
    )
    assert "ETHUSDT  1h" in done.out

    shown = candlestep("data", "list", "--home", home).out.splitlines()
    assert shown[1].split() == [
        "binance", "BTCUSDT", "1m", "2024-01-01", "00:00", "2024-01-01", "01:54", "109", "1",
    ]  # fmt: skip
    assert shown[2].split()[:3] == ["kraken", "ETHUSDT", "1h"]
    assert shown[-1].split() == ["BTCUSDT", "1m", "2024-01-01", "01:40", "2024-01-01", "01:45"]
    as_json = json.loads(candlestep("data", "list", "--json", "--home", home).out)
    assert as_json[0] == {
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "interval": "1m",
        "start": "2024-01-01T00:00:00Z",
        "end": "2024-01-01T01:54:00Z",
        "rows": 109,
        "gaps": [{"start": "2024-01-01T01:40:00Z", "end": "2024-01-01T01:45:00Z"}],
        "synthetic": False,
    }


def test_what_is_there_already_changes_nothing_and_what_differs_replaces(
    home: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(10)))
    candlestep("data", "import", path, "--home", home)
    again = candlestep("data", "import", path, "--home", home)
    assert again.code == 0
    assert "Nothing has changed" in again.out
    write(path, csv_text([*rows(8), *rows(4, START + 8 * 60_000, price=200.0)]))
    other = candlestep("data", "import", path, "--home", home)
    assert other.out.splitlines()[1].split()[6:10] == ["12", "2", "2", "0"]
    pruned = candlestep("data", "prune", "--home", home)
    assert (pruned.code, pruned.out) == (0, "2 superseded candles dropped.\n")
    assert listed(home) == {"BTCUSDT": 12}


def test_a_file_is_named_from_where_the_command_runs(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    write(tmp_path / "here" / "BTCUSDT.csv", csv_text(rows(5)))
    monkeypatch.chdir(tmp_path / "here")
    assert candlestep("data", "import", "BTCUSDT.csv", "--home", home).code == 0
    assert candlestep("data", "export", "copy.duckdb", "--home", home).code == 0
    assert (tmp_path / "here" / "copy.duckdb").exists()


BAD_FILES: dict[str, tuple[str, str]] = {
    "empty": ("", "is empty"),
    "blank": ("\n\n", "is empty"),
    "no_candles": (HEADER, "has no candles"),
    "low_above_high": (HEADER + GOOD_ROW + BAD_ROW, "line 3: low 95.0 is above the high 90.0"),
    "not_a_number": (HEADER + GOOD_ROW.replace("101", "many"), "line 2: "),
    "not_finite": (HEADER + GOOD_ROW.replace("101", "inf"), "line 2: "),
    "negative": (HEADER + GOOD_ROW.replace("99", "-99"), "line 2: "),
    "misaligned": (HEADER + GOOD_ROW.replace("00:00:00", "00:00:30"), "line 2: "),
    "no_time": (HEADER + GOOD_ROW.replace("2024-01-01T00:00:00Z", "yesterday"), "line 2: "),
    "many": (HEADER + BAD_ROW.replace(":01:", ":0{}:") * 9, "and 4 more"),
    "unknown_header": ("a,b,c\n1,2,3\n", "no column for time"),
    "no_header": ("1704067200000,1,2,1,2\n", "has no header"),
    "json": ('{"a": 1}', "is not a list of rows"),
    "broken_json": ("[[1,", "is not valid JSON"),
}


@pytest.mark.parametrize("way", ["alone", "beside"])
def test_what_is_bad_is_refused_in_words_and_changes_nothing(tmp_path: Path, way: str) -> None:
    home = tmp_path / "home"
    good = write(tmp_path / "BTCUSDT-1m-good.csv", csv_text(rows(3)))
    with ExitStack() as stack:
        if way == "beside":
            stack.enter_context(running(home))
        assert candlestep("data", "import", good, "--home", home).code == 0
        for name, (text, words) in BAD_FILES.items():
            lines = count()
            text = "".join(
                line.replace("{}", str(next(lines))) for line in text.splitlines(keepends=True)
            )
            path = write(tmp_path / f"BTCUSDT-1m-{name}.csv", text)
            refuse(home, [path], path.name, words)
        cut = tmp_path / "BTCUSDT-1m-cut.csv.gz"
        cut.write_bytes(write(tmp_path / "BTCUSDT.csv.gz", csv_text(rows(999))).read_bytes()[:2000])
        refuse(home, [cut], cut.name, "was cut off")
        noise = tmp_path / "BTCUSDT-1m-noise.csv"
        noise.write_bytes(bytes(range(128, 256)))
        refuse(home, [noise], noise.name, "UTF-8")
        absent = tmp_path / "BTCUSDT-1m-absent.csv"
        refuse(home, [absent], str(absent), "there is no such file")
        refuse(home, [tmp_path], str(tmp_path), "it is a directory")
        unnamed = write(tmp_path / "candles.csv", csv_text(rows(3)))
        refuse(home, [unnamed], unnamed.name, "--symbol")
        three = write(tmp_path / "BTCUSDT-3m.csv", csv_text(rows(3)))
        refuse(home, [three], three.name, "--interval")
        refuse(home, [good, "--symbol", "BTCXXX"], "", "quote currency")
        refuse(home, [good, "--exchange", "no exchange"], "exchange", "no name")
        refuse(home, [good, "--interval", "1h"], good.name, "line 3: ")
        assert listed(home) == {"BTCUSDT": 3}
    assert imports_of(home) == 1


def refuse(home: Path, arguments: list[object], name: str, words: str) -> None:
    done = candlestep("data", "import", *arguments, "--home", home)
    assert (done.code, done.out) == (1, ""), (arguments, done)
    assert done.err.startswith(f"candlestep: {name}"), done.err
    assert words in done.err
    assert "Traceback" not in done.err


def test_of_several_files_the_good_ones_are_imported(home: Path, tmp_path: Path) -> None:
    good = write(tmp_path / "BTCUSDT.csv", csv_text(rows(3)))
    bad = write(tmp_path / "ETHUSDT-1m.csv", HEADER + BAD_ROW)
    done = candlestep("data", "import", bad, good, "--home", home)
    assert done.code == 1
    assert "ETHUSDT-1m.csv: 1 bad row, nothing was imported: line 2" in done.err
    assert "BTCUSDT" in done.out
    assert listed(home) == {"BTCUSDT": 3}


def test_the_sample_market_comes_labelled_and_goes(home: Path, tmp_path: Path) -> None:
    done = candlestep("data", "sample", "--home", home)
    assert done.code == 0
    assert "synthetic: nothing in it ever happened" in done.out
    assert "BTCUSDT" in done.out
    shown = candlestep("data", "list", "--home", home).out
    assert [line.split()[-1] for line in shown.splitlines()[1:3]] == ["synthetic"] * 2
    real = write(tmp_path / "BTCUSDT.csv", csv_text(rows(3)))
    mixed = candlestep("data", "import", real, "--home", home)
    assert (mixed.code, mixed.out) == (1, "")
    assert "candlestep data drop-sample" in mixed.err
    dropped = candlestep("data", "drop-sample", "--home", home)
    assert dropped.out.startswith("The sample market of BTCUSDT, ETHUSDT is gone")
    assert "no sample market" in candlestep("data", "drop-sample", "--home", home).out
    assert candlestep("data", "import", real, "--home", home).code == 0
    again = candlestep("data", "sample", "--home", home)
    assert (again.code, again.out) == (1, "")
    assert "BTCUSDT has real candles" in again.err


def test_months_are_downloaded_and_imported(
    home: Path, tmp_path: Path, archive_server: Archive
) -> None:
    archive_server.publish("BTCUSDT", MONTH)
    archive_server.publish("ETHUSDT", MONTH, count=1000)
    archive_server.cut_after = [700]
    where = ["--home", home, "--base-url", archive_server.base_url]
    done = candlestep("data", "download", "btc/usdt", "ETHUSDT", "BTCUSDT", "--from", MONTH, *where)
    assert (done.code, done.err) == (0, "")
    assert [line.split()[6] for line in done.out.splitlines()[1:3]] == ["2,000", "1,000"]
    assert listed(home) == {"BTCUSDT": 2000, "ETHUSDT": 1000}
    kept = sorted(path.name for path in (home / cli.DOWNLOADS).iterdir())
    assert kept == [f"BTCUSDT-1m-{MONTH}.zip", f"ETHUSDT-1m-{MONTH}.zip"]
    fetched = len([name for name, _ in archive_server.requests if name.endswith(".zip")])
    assert fetched == 3
    partly = candlestep("data", "download", "BTCUSDT", "--from", MONTH, "--to", "2024-02", *where)
    assert partly.code == 1
    assert partly.err == "candlestep: the archive has no 1m candles of BTCUSDT 2024-02\n"
    assert "Nothing has changed" in partly.out


def test_a_download_that_fails_imports_nothing_and_goes_on_later(
    tmp_path: Path, archive_server: Archive
) -> None:
    home = tmp_path / "home"
    archive_server.publish("BTCUSDT", MONTH)
    where = ["--from", MONTH, "--home", home, "--base-url"]
    archive_server.cut_after = [500, 100]
    broken = candlestep("data", "download", "BTCUSDT", *where, archive_server.base_url)
    assert (broken.code, broken.out) == (1, "")
    assert "could not be fetched" in broken.err
    assert listed(home) == {}
    done = candlestep("data", "download", "BTCUSDT", *where, archive_server.base_url)
    assert (done.code, listed(home)) == (0, {"BTCUSDT": 2000})
    assert archive_server.requests[-1][1] == "bytes=600-"
    (checksum,) = archive_server.directory.rglob("*.CHECKSUM")
    checksum.write_text("0" * 64 + "  x.zip\n")
    wrong = candlestep("data", "download", "BTCUSDT", *where, archive_server.base_url)
    assert "does not have the checksum" in wrong.err
    for url in ("nowhere", "ftp://127.0.0.1", "http://127.0.0.1:port"):
        bad = candlestep("data", "download", "BTCUSDT", *where, url)
        assert (bad.code, bad.out) == (1, "")
        assert "base_url" in bad.err
    assert candlestep("data", "download", "B", *where, archive_server.base_url).code == 1


def test_an_export_opens_in_duckdb_and_never_overwrites(home: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(7)))
    candlestep("data", "import", path, "--home", home)
    copy = tmp_path / "copy.duckdb"
    done = candlestep("data", "export", copy, "--home", home)
    assert done.code == 0
    assert str(copy) in done.out
    with duckdb.connect(str(copy), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM current_candles").fetchall() == [(7,)]
    before = copy.read_bytes()
    again = candlestep("data", "export", copy, "--home", home)
    assert (again.code, again.out) == (1, "")
    assert "exists" in again.err
    assert copy.read_bytes() == before
    assert candlestep("data", "export", tmp_path / "no" / "copy", "--home", home).code == 1


def test_a_key_is_shown_once_and_revoked(home: Path) -> None:
    none = candlestep("keys", "list", "--home", home)
    assert "There are no keys" in none.out
    done = candlestep("keys", "create", "laptop", "--home", home)
    assert (done.code, done.err) == (0, "")
    shown = dict(line.split(maxsplit=1) for line in done.out.splitlines()[:4])
    secret = shown["key"]
    assert secret.startswith("ak_")
    assert (shown["account"], shown["agent"].split()[0]) == ("default", "default")
    other = candlestep("keys", "create", "other", "--account", "ann", "--home", home)
    assert secret not in other.out

    for flags in ([], ["--json"]):
        listing = candlestep("keys", "list", *flags, "--home", home)
        assert secret not in listing.out
        assert shown["id"] in listing.out
    first, second = json.loads(candlestep("keys", "list", "--json", "--home", home).out)
    assert (first["name"], first["account"], first["revoked_at"]) == ("laptop", "default", None)
    assert (second["name"], second["account"]) == ("other", "ann")
    assert not {"secret", "hash"} & first.keys()

    revoked = candlestep("keys", "revoke", shown["id"], "--home", home)
    assert (revoked.code, revoked.err) == (0, "")
    first, second = json.loads(candlestep("keys", "list", "--json", "--home", home).out)
    assert first["revoked_at"] is not None
    assert second["revoked_at"] is None
    unknown = candlestep("keys", "revoke", "key_x", "--home", home)
    assert (unknown.code, unknown.out) == (1, "")
    assert "candlestep keys list" in unknown.err


def test_a_key_acts_for_an_agent_of_its_account_only(home: Path) -> None:
    created = candlestep("keys", "create", "a", "--account", "ann", "--home", home).out
    agent_id = created.split("(")[1].split(")")[0]
    by_id = candlestep(
        "keys", "create", "b", "--account", "ann", "--agent", agent_id, "--home", home
    )
    assert f"default ({agent_id})" in by_id.out
    for account in ("bob", "default"):
        done = candlestep(
            "keys", "create", "c", "--account", account, "--agent", agent_id, "--home", home
        )
        assert (done.code, done.out) == (1, "")
        assert f"the account {account} has no agent" in done.err
    for name in ("", " ", "x" * 101, "a\nb"):
        done = candlestep("keys", "create", name, "--home", home)
        assert (done.code, done.out) == (1, "")
        assert "must be a name" in done.err
    keys = json.loads(candlestep("keys", "list", "--json", "--home", home).out)
    assert [key["name"] for key in keys] == ["a", "b"]


def test_a_command_says_the_same_alone_and_beside_a_server(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(10)))
    bad = write(tmp_path / "ETHUSDT.csv", HEADER + BAD_ROW)
    commands: list[list[object]] = [
        ["data", "list"],
        ["data", "import", path, bad],
        ["data", "import", path],
        ["data", "list"],
        ["data", "list", "--json"],
        ["data", "sample"],
        ["data", "drop-sample"],
        ["data", "prune"],
        ["keys", "list"],
        ["keys", "revoke", "none"],
        ["keys", "create", "x", "--agent", "none"],
    ]
    homes = [tmp_path / "one", tmp_path / "two"]
    with running(homes[1]):
        runs = [
            [
                [text.replace(str(home), "HOME") for text in (str(run.code), run.out, run.err)]
                for run in (candlestep(*command, "--home", home) for command in commands)
            ]
            for home in homes
        ]
    assert runs[0] == runs[1]


def test_a_server_serves_until_it_is_stopped(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        assert httpx.get(f"{server.url}/health", trust_env=False).status_code == 200
        left = tmp_path / SERVER_FILE
        assert left.stat().st_mode & 0o077 == 0
        assert server.stop() == 0
        assert not left.exists()
        assert "Traceback" not in (tmp_path / "server.log").read_text()
    assert candlestep("data", "list", "--home", tmp_path).code == 0


def test_a_second_server_on_a_home_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        second = candlestep_process("serve", "--home", tmp_path, "--port", 0)
        out, err = second.communicate(timeout=60)
        assert (second.returncode, out) == (1, "")
        assert "candlestep: " in err
        assert str(server.process.pid) in err
        assert "Traceback" not in err
        assert httpx.get(f"{server.url}/health", trust_env=False).status_code == 200
        assert candlestep("data", "list", "--home", tmp_path).code == 0


def test_a_running_server_knows_at_once_what_a_command_changed(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(10)))
    with running(tmp_path / "home") as server:
        assert data_range(server)["earliest"] is None
        candlestep("data", "import", path, "--home", server.home)
        assert data_range(server)["latest"] == "2024-01-01T00:09:59Z"

        candlestep("keys", "create", "first", "--home", server.home)
        with server.client() as client:
            for _ in range(5):
                key, key_id = create_key(server.home)
                headers = {"X-API-Key": key}
                assert client.get("/api/v1/agents", headers=headers).status_code == 200
                candlestep("keys", "revoke", key_id, "--home", server.home)
                assert client.get("/api/v1/agents", headers=headers).status_code == 401


def test_a_server_whose_last_key_is_revoked_stays_closed(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        assert client.get("/api/v1/agents").status_code == 200
        key, key_id = create_key(tmp_path)
        candlestep("keys", "revoke", key_id, "--home", tmp_path)
        for headers in ({}, {"X-API-Key": key}):
            assert client.get("/api/v1/agents", headers=headers).status_code == 401


def create_key(home: Path) -> tuple[str, str]:
    """A new key, and its id."""
    key, key_id, *_ = candlestep("keys", "create", "k", "--home", home).out.splitlines()
    return key.split()[1], key_id.split()[1]


def data_range(server: RunningServer) -> dict[str, object]:
    found = httpx.get(f"{server.url}/api/v1/market/data-range", trust_env=False).json()
    assert isinstance(found, dict)
    return found


def test_only_who_can_read_the_home_may_command_a_server(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        url = f"{server.url}/admin/data/list"
        key = candlestep("keys", "create", "k", "--home", tmp_path).out.split()[1]
        for headers in ({}, {TOKEN_HEADER: ""}, {TOKEN_HEADER: "x"}, {"X-API-Key": key}):
            answer = httpx.post(url, headers=headers, trust_env=False)
            assert answer.status_code in (401, 403)
            assert answer.json()["code"] in ("UNAUTHORIZED", "FORBIDDEN")
        left = json.loads((tmp_path / SERVER_FILE).read_text())
        (tmp_path / SERVER_FILE).write_text(json.dumps(left | {"token": "x"}))
        done = candlestep("data", "list", "--home", tmp_path)
        assert (done.code, done.out) == (1, "")
        assert "answers 40" in done.err


def test_who_leaves_during_an_import_does_not_undo_it(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(60_000)))
    home = tmp_path / "home"
    with running(home) as server:
        token = json.loads((home / SERVER_FILE).read_text())["token"]
        with httpx.stream(
            "POST",
            f"{server.url}/admin/data/import",
            json={"files": [str(path)]},
            headers={TOKEN_HEADER: token},
            trust_env=False,
        ) as answer:
            first = json.loads(next(answer.iter_lines()))
            assert first["progress"]["part"] == "BTCUSDT.csv"
        # A server that is asked to stop finishes what it has begun.
        assert server.stop() == 0
    assert listed(home) == {"BTCUSDT": 60_000}


@pytest.mark.parametrize("way", ["alone", "beside"])
def test_an_import_that_is_killed_is_there_whole_or_not_at_all(tmp_path: Path, way: str) -> None:
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(60_000)))
    home = tmp_path / "home"
    first = write(tmp_path / "ETHUSDT.csv", csv_text(rows(5)))
    assert candlestep("data", "import", first, "--home", home).code == 0
    with ExitStack() as stack:
        if way == "beside":
            server = stack.enter_context(running(home))
            token = json.loads((home / SERVER_FILE).read_text())["token"]
            with httpx.stream(
                "POST",
                f"{server.url}/admin/data/import",
                json={"files": [str(path)]},
                headers={TOKEN_HEADER: token},
                trust_env=False,
            ) as answer:
                next(answer.iter_lines())
                server.kill()
        else:
            script = (
                "import os, sys\nfrom candlestep.api.cli.main import main\n"
                "from candlestep.data.imports import importer\n"
                "importer._open_times = lambda *series: os.kill(os.getpid(), 9)\n"
                "main(sys.argv[1:])"
            )
            importing = ["data", "import", str(path), "--home", str(home)]
            command = [sys.executable, "-c", script, *importing]
            killed = subprocess.run(command, env=ENVIRONMENT, check=False)
            assert killed.returncode == -signal.SIGKILL
    found = listed(home)
    assert found in ({"ETHUSDT": 5}, {"ETHUSDT": 5, "BTCUSDT": 60_000})
    if way == "alone":
        assert found == {"ETHUSDT": 5}
    assert candlestep("data", "import", path, "--home", home).code == 0
    assert listed(home) == {"ETHUSDT": 5, "BTCUSDT": 60_000}


def test_what_a_server_left_behind_is_no_server(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with_pid = {"url": "http://127.0.0.1:9", "token": "x", "pid": ended.pid}
    left = tmp_path / SERVER_FILE
    for text in (json.dumps(with_pid), json.dumps(with_pid | {"pid": os.getpid()}), "{", ""):
        left.write_text(text)
        done = candlestep("data", "list", "--home", tmp_path)
        assert (done.code, done.err) == (0, "")


def test_a_server_killed_leaves_a_home_that_works(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.kill()
    assert (tmp_path / SERVER_FILE).exists()
    assert candlestep("data", "list", "--home", tmp_path).code == 0
    with running(tmp_path) as server:
        assert httpx.get(f"{server.url}/health", trust_env=False).status_code == 200


def test_a_store_in_use_by_something_else_is_left_alone(tmp_path: Path) -> None:
    candlestep("data", "list", "--home", tmp_path)
    script = (
        "import duckdb, sys\n"
        "with duckdb.connect(sys.argv[1]):\n"
        "    print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / STORE_NAME)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        done = candlestep("data", "list", "--home", tmp_path)
        serve = candlestep("serve", "--home", tmp_path, "--port", 0)
        holder.communicate("")
    for refused in (done, serve):
        assert (refused.code, refused.out) == (1, "")
        assert str(holder.pid) in refused.err


def test_a_home_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = candlestep("data", "list", "--home", tmp_path / "file" / "home")
    assert (done.code, done.out) == (1, "")
    assert str(tmp_path / "file" / "home") in done.err
    (tmp_path / STORE_NAME).write_text("this is no store")
    done = candlestep("data", "list", "--home", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "is not a DuckDB file" in done.err
    assert (tmp_path / STORE_NAME).read_text() == "this is no store"


def test_the_home_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANDLESTEP_HOME", str(tmp_path / "there"))
    monkeypatch.setenv("CANDLESTEP_PORT", "not needed")
    done = candlestep("data", "list")
    assert "`candlestep data sample`" in done.out
    assert (tmp_path / "there" / STORE_NAME).exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Next: `candlestep data sample` loads"),
        (["data"], "required"),
        (["data", "imprt"], "invalid choice"),
        (["data", "import"], "FILE"),
        (["data", "import", "x.csv", "--interval", "3m"], "--interval"),
        (["data", "import", "x.csv", "--intervall", "1m"], "unrecognized"),
        (["data", "import", os.fsdecode(b"\xff.csv")], "not UTF-8"),
        (["data", "download", "BTCUSDT"], "--from"),
        (["data", "download", "BTCUSDT", "--from", "2024-13"], "2024-13"),
        (["keys", "create"], "NAME"),
        (["serve", "--port", "x"], "--port: 'x'"),
        (["serve", "--memory-budget", "much"], "--memory-budget: 'much'"),
    ],
)
def test_misuse_is_told_and_does_nothing(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANDLESTEP_HOME", str(tmp_path / "home"))
    done = candlestep(*arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert not (tmp_path / "home").exists()


def test_months_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    asked = ["--from", "2024-03", "--to", "2024-01", "--home", tmp_path]
    done = candlestep("data", "download", "BTCUSDT", *asked)
    assert (done.code, done.err) == (1, "candlestep: --to: 2024-01 is before 2024-03\n")


@contextmanager
def announced(home: Path) -> Iterator[socket.socket]:
    """Yield a listening socket that the file in ``home`` says is the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        announcement = {"url": url, "token": "x", "pid": os.getpid()}
        (home / SERVER_FILE).write_text(json.dumps(announcement))
        yield listener


def test_an_interrupted_command_ends_quietly(tmp_path: Path) -> None:
    with announced(tmp_path) as listener:
        process = candlestep_process("data", "list", "--home", tmp_path)
        with listener.accept()[0]:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_reader_that_has_enough_ends_a_command_quietly(tmp_path: Path) -> None:
    candlestep("data", "sample", "--home", tmp_path)
    read, written = os.pipe()
    os.close(read)
    process = candlestep_process("data", "list", "--home", tmp_path, stdout=written)
    os.close(written)
    _, err = process.communicate(timeout=60)
    assert err == ""


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"])
def test_a_server_that_breaks_off_is_reported(tmp_path: Path, answer: bytes) -> None:
    with announced(tmp_path) as listener:
        process = candlestep_process("data", "list", "--home", tmp_path)
        with listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(answer)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "broke (" in err
    assert "try again" in err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_progress_and_other_streams_do_not() -> None:
    for stream, expected in ((Terminal(), True), (io.StringIO(), False)):
        with ProgressBar(stream) as bar:
            bar.show(Progress("a.csv", 50, 200, "rows"))
            bar.show(Progress("a.csv", 200, 200, "rows"))
            bar.show(Progress("b.zip", 3_000_000, 0, "bytes"))
        shown = stream.getvalue()
        assert bool(shown) is expected
        if expected:
            assert "25%" in shown
            assert "100%  200 rows" in shown
            assert "3.0 MB" in shown
            assert shown.endswith("\r\033[K")


def test_an_import_shows_its_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(100)))
    assert cli.main(["data", "import", str(path), "--home", str(tmp_path)]) == 0
    assert "BTCUSDT.csv  [####" in terminal.getvalue()


def test_columns_are_aligned() -> None:
    assert table(("a", "n"), [("x", "10"), ("long", "5")], numbers=("n",)) == (
        "a      n\nx     10\nlong   5"
    )


def test_help_names_every_command() -> None:
    done = candlestep("data", "--help")
    assert done.code == 0
    for command in ("import", "list", "sample", "drop-sample", "download", "export", "prune"):
        assert command in done.out
