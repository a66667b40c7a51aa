"""The commands on candles, on a home alone and next to a server that has its store open."""

import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path

import duckdb
import httpx
import pytest

from candlestep.api.admin.candles import PRUNE
from candlestep.api.admin.operation import EmptyInput, OpenHome
from candlestep.api.cli.data import DOWNLOADS, download_months
from candlestep.data.errors import DownloadFailed
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.store.database import Store
from candlestep.data.store.server_file import SERVER_FILE, TOKEN_HEADER
from tests.support.archive_server import Archive
from tests.support.candle_files import START, csv_text, rows, write, write_json
from tests.support.command_line import ENVIRONMENT, candlestep, listed
from tests.support.patience import PATIENCE
from tests.support.server_process import running
from tests.support.watched_store import WatchedStore

MONTH = "2024-01"
HEADER = "timestamp,open,high,low,close,volume\n"
BAD_ROW = "2024-01-01T00:01:00Z,100,90,95,100,1\n"
GOOD_ROW = "2024-01-01T00:00:00Z,100,101,99,100,1\n"


def imports_of(home: Path) -> int:
    """Return the number of imports that changed the store of a home without a server."""
    store = Store.open(home)
    try:
        count: int = store.rows("SELECT count(*) FROM imports")[0][0]
        return count
    finally:
        store.close()


def test_days_of_a_market_are_imported_as_dates_on_demand(home: Path, tmp_path: Path) -> None:
    days = rows(5, START + 5 * 3_600_000, interval=86_400_000)
    path = write(tmp_path / "AAPL.csv", csv_text(days))
    options = ("--symbol", "AAPL/USD", "--home", home)
    trial = candlestep("data", "import", path, "--as-dates", "--dry-run", *options)
    assert "up to 5 hours after midnight UTC; they were imported as UTC days" in trial.out
    assert candlestep("data", "import", path, "--as-dates", *options).code == 0
    (series,) = json.loads(candlestep("data", "list", "--json", "--home", home).out)
    assert (series["start"], series["interval"]) == ("2024-01-01T00:00:00Z", "1d")
    again = candlestep("data", "import", path, *options)
    assert again.code == 1
    assert "overlap 1d candles that are there already" in again.err


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


def test_pruning_waits_for_records_that_pin_an_import(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for price in (100.0, 200.0):
        path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(10, price=price)))
        candlestep("data", "import", path, "--home", home)
    with closing(WatchedStore.open(home)) as store, ThreadPoolExecutor(1) as other:
        with store.transaction():
            store.execute(
                "INSERT INTO jobs (job_id, account_id, number, origin, status, progress, attempts,"
                " request, submitted_at)"
                " VALUES ('one', 'ann', 1, 'test', 'queued', 0, 0, '{}', now()::TIMESTAMP)"
            )
            store.execute("INSERT INTO job_runs VALUES ('one', 0, 1, '{}', NULL)")
            store.asked_for = threading.Semaphore(0)
            opened = OpenHome(store, CandleCache(store, 1 << 20).parts)
            pruning = other.submit(PRUNE.run, opened, EmptyInput(), lambda progress: None)
            assert store.asked_for.acquire(timeout=PATIENCE)
        assert pruning.result(timeout=PATIENCE).rows == 0
        assert store.rows("SELECT count(*) FROM candles") == [(20,)]


def test_candles_are_removed(home: Path, tmp_path: Path) -> None:
    minutes = write(tmp_path / "BTCUSDT-1m.csv", csv_text(rows(100)))
    hours = write(tmp_path / "BTCUSDT-1h.csv", csv_text(rows(10, interval=3_600_000)))
    candlestep("data", "import", minutes, hours, "--home", home)
    done = candlestep(
        "data", "remove", "BTC/USDT", "--interval", "1m", "--from", "2024-01-01T00:10",
        "--to", "2024-01-01 01:00", "--home", home,
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    header, line, *_ = done.out.splitlines()
    assert header.split()[-2:] == ["removed", "left"]
    assert line.split() == [
        "binance", "BTCUSDT", "1m", "2024-01-01", "00:10", "2024-01-01", "01:00", "50", "50",
    ]  # fmt: skip
    assert "Sessions that have started keep" in done.out
    assert f"`candlestep data prune --home {home}`" in done.out
    [_, series] = json.loads(candlestep("data", "list", "--json", "--home", home).out)[::-1]
    assert series["rows"] == 50
    assert series["gaps"] == [{"start": "2024-01-01T00:10:00Z", "end": "2024-01-01T01:00:00Z"}]
    assert candlestep("data", "prune", "--home", home).out.startswith("50 superseded")
    assert candlestep("data", "remove", "BTCUSDT", "--home", home).code == 0
    assert listed(home) == {}


def test_a_removal_that_is_not_possible_says_why(home: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(10)))
    candlestep("data", "import", path, "--home", home)
    for arguments, code, message in (
        (["ETHUSDT"], 1, "no candles of ETHUSDT"),
        (["BTC/USD:BTC"], 1, "perpetual"),
        (["BTCUSDT", "--from", "2025-01-01"], 1, "no such candles of BTCUSDT"),
        (["BTCUSDT", "--to", "yesterday"], 2, "--to"),
        (["BTCUSDT", "--from", "2025-01-02", "--to", "2025-01-01"], 1, "after"),
        ([], 2, "SYMBOL"),
    ):
        refused = candlestep("data", "remove", *arguments, "--home", home)
        assert (refused.code, message in refused.err) == (code, True), refused
    assert listed(home) == {"BTCUSDT": 10}


def test_instruments_are_listed_shown_and_changed(home: Path, tmp_path: Path) -> None:
    empty = candlestep("data", "instruments", "--home", home)
    assert "no instruments yet" in empty.out
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(10)))
    assert candlestep("data", "import", path, "--no-volume", "--home", home).code == 0
    changed = candlestep(
        "data", "instrument", "btc/usdt", "--volume-usable", "--tick-size", "0.010",
        "--min-notional", "5", "--home", home,
    )  # fmt: skip
    assert (changed.code, changed.err) == (0, "")
    assert "Sessions that start from now on" in changed.out
    table = candlestep("data", "instruments", "--home", home).out
    header, line = table.splitlines()
    assert header.split() == [
        "exchange", "symbol", "kind", "base", "quote", "tick_size", "step_size", "min_quantity",
        "min_notional", "volume",
    ]  # fmt: skip
    assert line.split() == ["binance", "BTCUSDT", "spot", "BTC", "USDT", "0.01", "5", "usable"]
    assert candlestep("data", "instrument", "BTC-USDT", "--home", home).out == table
    candlestep(
        "data", "instrument", "BTCUSDT", "--tick-size", "none", "--no-volume-usable", "--home", home
    )
    shown = candlestep("data", "instrument", "BTCUSDT", "--json", "--home", home)
    expected = {
        "exchange": "binance", "symbol": "BTCUSDT", "kind": "spot", "base": "BTC", "quote": "USDT",
        "filters": {
            "tick_size": None, "step_size": None, "min_quantity": None, "min_notional": "5",
        },
        "volume_usable": False,
    }  # fmt: skip
    assert json.loads(shown.out) == expected
    listed = candlestep("data", "instruments", "--json", "--home", home)
    assert json.loads(listed.out) == [expected]
    for arguments, words in (
        (["ETHUSDT"], "no instrument ETHUSDT"),
        (["BTCUSDT", "--exchange", "kraken"], "on kraken"),
        (["BTCUSDT", "--tick-size", "0"], "tick_size: must be positive"),
        (["BTCUSDT", "--step-size", "1e-9"], "step_size"),
        (["BTC/USD:BTC"], "perpetual"),
    ):
        refused = candlestep("data", "instrument", *arguments, "--home", home)
        assert (refused.code, words in refused.err) == (1, True), refused
    assert json.loads(candlestep("data", "instruments", "--json", "--home", home).out) == [expected]


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


@pytest.mark.parametrize("way", ["alone", "served"])
def test_a_bad_file_is_refused_with_the_reason_and_changes_nothing(
    tmp_path: Path, way: str
) -> None:
    home = tmp_path / "home"
    good = write(tmp_path / "BTCUSDT-1m-good.csv", csv_text(rows(3)))
    with ExitStack() as stack:
        if way == "served":
            stack.enter_context(running(home))
        assert candlestep("data", "import", good, "--home", home).code == 0
        # A server reads files as a command does; a few kinds show that its refusals arrive.
        kinds = ("empty", "many", "json") if way == "served" else BAD_FILES
        for name in kinds:
            text, words = BAD_FILES[name]
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
        refuse(home, [good, "--exchange", "no exchange"], "exchange", "not a valid exchange name")
        refuse(home, [good, "--interval", "1h"], good.name, "no two are 1 hour apart")
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


@pytest.mark.parametrize("way", ["alone", "served"])
def test_an_import_that_is_killed_is_there_whole_or_not_at_all(tmp_path: Path, way: str) -> None:
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(60_000)))
    home = tmp_path / "home"
    first = write(tmp_path / "ETHUSDT.csv", csv_text(rows(5)))
    assert candlestep("data", "import", first, "--home", home).code == 0
    with ExitStack() as stack:
        if way == "served":
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
            command = [sys.executable, "-m", "tests.support.killed_import", str(home), str(path)]
            killed = subprocess.run(command, env=ENVIRONMENT, check=False)
            assert killed.returncode == -signal.SIGKILL
    after_kill = listed(home)
    assert after_kill in ({"ETHUSDT": 5}, {"ETHUSDT": 5, "BTCUSDT": 60_000})
    if way == "alone":
        assert after_kill == {"ETHUSDT": 5}
    assert candlestep("data", "import", path, "--home", home).code == 0
    assert listed(home) == {"ETHUSDT": 5, "BTCUSDT": 60_000}


def test_the_sample_market_comes_labelled_and_goes(home: Path, tmp_path: Path) -> None:
    done = candlestep("data", "sample", "--home", home)
    assert done.code == 0
    assert "synthetic: nothing in it ever happened" in done.out
    assert "BTCUSDT" in done.out
    assert "\n\n\n" not in done.out
    shown = candlestep("data", "list", "--home", home).out
    assert [line.split()[-1] for line in shown.splitlines()[1:3]] == ["synthetic"] * 2
    real = write(tmp_path / "BTCUSDT.csv", csv_text(rows(3)))
    mixed = candlestep("data", "import", real, "--home", home)
    assert (mixed.code, mixed.out) == (1, "")
    assert "candlestep data drop-sample" in mixed.err
    dropped = candlestep("data", "drop-sample", "--home", home)
    assert dropped.out.startswith("The sample market of BTCUSDT, ETHUSDT, SOLUSDT-PERP is gone")
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
    downloads = sorted(path.name for path in (home / DOWNLOADS).iterdir())
    assert downloads == [f"BTCUSDT-1m-{MONTH}.zip", f"ETHUSDT-1m-{MONTH}.zip"]
    fetched = len([name for name, _ in archive_server.requests if name.endswith(".zip")])
    assert fetched == 3
    partly = candlestep("data", "download", "BTCUSDT", "--from", MONTH, "--to", "2024-02", *where)
    assert partly.code == 1
    assert partly.err == "candlestep: the archive has no 1m candles of BTCUSDT 2024-02\n"
    assert "Nothing has changed" in partly.out


def test_a_download_that_fails_imports_nothing_and_goes_on_later(
    tmp_path: Path, archive_server: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    archive_server.publish("BTCUSDT", MONTH)
    where = ["--from", MONTH, "--home", home, "--base-url"]
    archive_server.cut_after = [500, 100]
    url = archive_server.base_url
    with pytest.raises(DownloadFailed, match="could not be fetched"):
        download_months(str(home), ["BTCUSDT"], MONTH, None, "1m", url, retry_waits=[0.0])
    assert capsys.readouterr() == ("", "")
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


def test_months_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    period = ["--from", "2024-03", "--to", "2024-01", "--home", tmp_path]
    done = candlestep("data", "download", "BTCUSDT", *period)
    assert (done.code, done.err) == (1, "candlestep: --to: 2024-01 is before 2024-03\n")


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
