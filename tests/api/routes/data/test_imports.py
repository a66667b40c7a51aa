"""Candles imported over HTTP: received to the disk, imported as a whole or not at all."""

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from candlestep.api.admin.candles import ImportFiles
from candlestep.api.admin.file_imports import DIRECTORY
from candlestep.api.routes.data.imports import ImportQuery
from tests.support.api_client import check_error, make_key, refused, wait_for
from tests.support.candle_files import MINUTE, START, csv_text, rows, write
from tests.support.command_line import listed
from tests.support.patience import PATIENCE
from tests.support.perpetual_files import LAYOUTS, TIMES
from tests.support.server_process import RunningServer, running

BASE = "/api/v1/data/import"
ENDED = ("completed", "failed")


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(tmp_path_factory.mktemp("served"), "--max-import-bytes", "4MiB") as server:
        yield server


@pytest.fixture
def client(module_server: RunningServer) -> Iterator[httpx.Client]:
    with module_server.client() as client:
        yield client


def send(client: httpx.Client, file: str, content: Any, **options: Any) -> httpx.Response:
    return client.post(BASE, params={"file": file, **options}, content=content)


def outcome(client: httpx.Client, answer: httpx.Response) -> Any:
    """Wait for an import that was accepted to end, and return it."""
    assert answer.status_code == 202, answer.text
    path = f"{BASE}/{answer.json()['import_id']}"
    return wait_for(lambda: client.get(path).json(), lambda found: found["state"] in ENDED)


def series(client: httpx.Client) -> list[str]:
    pairs: list[str] = client.get("/api/v1/market/data-range").json()["pairs"]
    return pairs


def left_over(home: Path) -> list[Path]:
    return [path for path in (home / DIRECTORY).rglob("*") if path.is_file()]


def test_a_file_is_imported_with_its_options(
    client: httpx.Client, module_server: RunningServer
) -> None:
    content = gzip.compress(csv_text(rows(100)).encode())
    answer = send(client, "candles-1m.csv.gz", content, symbol="ada/usdt", exchange="Kraken")
    begun = answer.json()
    assert begun["state"] in ("queued", "running", "completed")
    assert begun["error"] is None
    done = outcome(client, answer)
    [imported] = done["imported"]
    taken = imported.pop("taken")
    assert imported == {
        "exchange": "kraken", "symbol": "ADAUSDT", "kind": "candles", "interval": "1m",
        "start": "2024-01-01T00:00:00Z", "end": "2024-01-01T01:40:00Z",
        "rows": 100, "new": 100, "replaced": 0, "unchanged": 0, "gaps": 0,
        "import_number": imported["import_number"],
    }  # fmt: skip
    assert "ADAUSDT" in taken["symbol"]
    assert (done["state"], done["rows_read"], done["share"]) == ("completed", 100, 1)
    assert (done["file"], done["previews"], done["error"]) == ("candles-1m.csv.gz", [], None)
    assert "ADAUSDT" in series(client)
    again = outcome(client, send(client, "x.csv.gz", content, symbol="ADA-USDT", exchange="kraken"))
    assert again["imported"][0]["unchanged"] == 100
    assert again["imported"][0]["import_number"] is None
    assert left_over(module_server.home) == []


def test_times_of_day_are_dated_by_the_option(client: httpx.Client) -> None:
    content = "time,open,high,low,close\n00:00,1,1,1,1\n00:01,1,1,1,1\n"
    options = {"date": "2024-03-05", "interval": "60", "symbol": "DAYUSDT"}
    done = outcome(client, send(client, "candles.csv", content, **options))
    assert done["error"] is None
    assert done["imported"][0]["start"] == "2024-03-05T00:00:00Z"


def test_a_dry_run_tells_and_imports_nothing(client: httpx.Client) -> None:
    content = csv_text(rows(10)).encode()
    done = outcome(client, send(client, "DRYUSDT-1m.csv", content, dry_run="true"))
    [preview] = done["previews"]
    assert (done["state"], done["imported"]) == ("completed", [])
    assert preview["rows"] == 10
    assert preview["first"] == [float(number) for number in rows(1)[0]]
    assert preview["taken"]["interval"] == "1m"
    assert "DRYUSDT" not in series(client)


def test_a_file_whose_volume_is_not_to_be_used_marks_its_instrument(client: httpx.Client) -> None:
    done = outcome(client, send(client, "VOLUSDT-1m.csv", csv_text(rows(9)), no_volume="true"))
    assert done["state"] == "completed"
    instrument = client.get("/api/v1/data/instruments/VOLUSDT").json()
    assert instrument["volume_usable"] is False


def test_what_perpetuals_have_is_imported(client: httpx.Client, tmp_path: Path) -> None:
    for name, interval, rows_in_file in (
        ("archive candles", "1h", 6), ("freqtrade marks", "1h", 6),
        ("archive funding", None, 6), ("ccxt tiers", None, 1),
    ):  # fmt: skip
        path = LAYOUTS[name].write(tmp_path)
        done = outcome(client, send(client, path.name, path.read_bytes()))
        [imported] = done["imported"]
        assert (imported["symbol"], imported["kind"]) == ("BTCUSDT-PERP", LAYOUTS[name].kind)
        assert (imported["interval"], imported["rows"]) == (interval, rows_in_file)
        assert imported["taken"]["kind"] == LAYOUTS[name].kind
    assert "BTCUSDT-PERP" in series(client)
    instrument = client.get("/api/v1/data/instruments/BTCUSDT-PERP").json()
    assert (instrument["kind"], len(instrument["tiers"])) == ("perp", 3)
    assert instrument["tiers"][1] == {
        "floor": "50000", "mmr": "0.005", "cum": "50", "max_leverage": "100",
    }  # fmt: skip
    path = LAYOUTS["archive funding"].write(tmp_path)
    tried = outcome(client, send(client, path.name, path.read_bytes(), dry_run="true"))
    assert [tried["previews"][0][name] for name in ("rows", "first")] == [6, [TIMES[0], 0.0001]]
    wrong = outcome(client, send(client, path.name, path.read_bytes(), kind="mark"))
    assert "--kind says that it has mark prices, but its name says" in wrong["error"]["message"]
    hole = "calc_time,funding_interval_hours,last_funding_rate\n" + "".join(
        f"{START + hour * 3_600_000},8,0.0001\n" for hour in (0, 8, 32)
    )
    outcome(client, send(client, "ETHUSDT-fundingRate.csv", hole))
    [gap] = client.get("/api/v1/market/data-range").json()["funding_gaps"]
    assert (gap["symbol"], gap["start"], gap["end"]) == (
        "ETHUSDT-PERP", "2024-01-01T16:00:00Z", "2024-01-02T08:00:00Z",
    )  # fmt: skip


def test_a_bad_row_is_named_and_nothing_is_imported(
    client: httpx.Client, module_server: RunningServer
) -> None:
    bad = csv_text([*rows(20), (START + 20 * MINUTE, 1.0, 0.5, 2.0, 1.0, 1.0)])
    failed = outcome(client, send(client, "BADUSDT-1m.csv", bad.encode()))
    assert (failed["state"], failed["imported"]) == ("failed", [])
    error = failed["error"]
    assert (error["code"], error["details"]["count"]) == ("INVALID_PARAMETER", 1)
    [row] = error["details"]["rows"]
    assert row["line"] == 22
    assert error["message"].startswith("BADUSDT-1m.csv: 1 bad row")
    unknown = outcome(client, send(client, "candles.csv", csv_text(rows(5))))
    assert "symbol" in unknown["error"]["message"]
    contract = outcome(client, send(client, "BTCUSDT_250328-1m.csv", csv_text(rows(5))))
    assert "a contract that expires" in contract["error"]["message"]
    assert "BADUSDT" not in series(client)
    assert left_over(module_server.home) == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "file"),
        ({"file": ""}, "file"),
        ({"file": ".."}, "file"),
        ({"file": "../BTCUSDT.csv"}, "file"),
        ({"file": "a\\b.csv"}, "file"),
        ({"file": "a\0b.csv"}, "file"),
        ({"file": "x" * 201}, "file"),
        ({"file": "é" * 150}, "file"),
        ({"file": "a.csv", "symbol": "BTC/USD:BTC"}, "symbol"),
        ({"file": "a.csv", "kind": "klines"}, "kind"),
        ({"file": "a.csv", "interval": "1M"}, "interval"),
        ({"file": "a.csv", "exchange": "a b"}, "exchange"),
        ({"file": "a.csv", "date": "yesterday"}, "date"),
        ({"file": "a.csv", "decimal": ";"}, "decimal"),
        ({"file": "a.csv", "dry_run": "perhaps"}, "dry_run"),
        ({"file": "a.csv", "dryrun": "true"}, "dryrun"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_at_once(
    client: httpx.Client, query: dict[str, str], field: str
) -> None:
    answer = client.post(BASE, params=query, content=b"x")
    assert refused(answer, 422, "INVALID_PARAMETER")["field"] == field


def test_an_empty_body_and_an_unknown_import_are_refused(client: httpx.Client) -> None:
    assert refused(send(client, "a.csv", b""), 422, "INVALID_PARAMETER")["field"] == "body"
    refused(client.get(f"{BASE}/0123"), 404, "NOT_FOUND")


def test_a_file_may_be_as_large_as_the_setting_says(
    client: httpx.Client, module_server: RunningServer
) -> None:
    """Whether its length is announced or not; nothing of it stays on the disk."""
    limit = 4 << 20
    assert outcome(client, send(client, "FITUSDT-1m.csv", bytes(limit)))["state"] == "failed"
    details = refused(send(client, "LARGEUSDT.csv", bytes(limit + 1)), 413, "PAYLOAD_TOO_LARGE")
    assert details["max_bytes"] == limit

    def chunks() -> Iterator[bytes]:
        for _ in range(5):
            yield bytes(1 << 20)

    refused(send(client, "LARGEUSDT.csv", chunks()), 413, "PAYLOAD_TOO_LARGE")
    assert left_over(module_server.home) == []


def test_a_client_that_goes_away_leaves_nothing(module_server: RunningServer) -> None:
    address = urlsplit(module_server.url)
    head = (
        f"POST {BASE}?file=GONEUSDT-1m.csv HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Length: 3000000\r\n\r\n"
    )
    uploads = module_server.home / DIRECTORY
    with closing(
        socket.create_connection((address.hostname, address.port), PATIENCE)
    ) as connection:
        connection.sendall(head.encode() + b"x" * 2_000_000)
        wait_for(lambda: left_over(module_server.home), bool)
    wait_for(lambda: list(uploads.iterdir()), lambda found: found == [])


def test_a_full_disk_is_answered_with_503(tmp_path: Path) -> None:
    with running(tmp_path / "home") as server, server.client() as client:
        assert outcome(client, send(client, "BTCUSDT-1m.csv", csv_text(rows(9))))
        server.limit_files(2_000_000)
        answer = send(client, "ETHUSDT-1m.csv", bytes(3_000_000))
        refused(answer, 503, "STORAGE_UNAVAILABLE")
        assert left_over(server.home) == []
        server.limit_files(1 << 40)
        assert outcome(client, send(client, "ETHUSDT-1m.csv", csv_text(rows(9))))["error"] is None
        assert series(client) == ["BTCUSDT", "ETHUSDT"]


def test_a_server_that_is_killed_leaves_nothing_of_an_import(tmp_path: Path) -> None:
    home = tmp_path / "home"
    many = csv_text(rows(300_000)).encode()
    with running(home) as server, server.client() as client:
        answer = send(client, "BTCUSDT-1m.csv", many)
        path = f"{BASE}/{answer.json()['import_id']}"
        state = wait_for(lambda: client.get(path).json(), lambda state: state["rows_read"])
        server.kill()
        assert state["state"] == "running"
        assert 0 < state["share"] <= 1
    assert left_over(home)
    with running(home) as server, server.client() as client:
        assert series(client) == []
        assert left_over(home) == []
        refused(client.get(path), 404, "NOT_FOUND")
        done = outcome(client, send(client, "BTCUSDT-1m.csv", many))
        assert done["imported"][0]["new"] == 300_000
    assert listed(home) == {"BTCUSDT": 300_000}


def test_files_wait_for_one_another_and_only_so_many_wait(tmp_path: Path) -> None:
    many = csv_text(rows(30_000)).encode()
    with running(tmp_path / "home") as server, server.client() as client:
        answers = [send(client, f"A{number}USDT-1m.csv", many) for number in range(12)]
        codes = [answer.status_code for answer in answers]
        assert codes[0] == 202
        assert 429 in codes
        late = next(answer for answer in answers if answer.status_code == 429)
        assert check_error(late)["code"] == "RATE_LIMITED"
        assert late.headers["retry-after"]
        accepted = [answer for answer in answers if answer.status_code == 202]
        done = [outcome(client, answer) for answer in accepted]
        numbers = [one["imported"][0]["import_number"] for one in done]
        assert numbers == sorted(numbers)
        assert left_over(server.home) == []


def test_a_server_that_is_stopped_breaks_off_what_it_has_begun(tmp_path: Path) -> None:
    """Nothing of the import that runs is there, nor of the one that waits for it."""
    many = csv_text(rows(800_000)).encode()
    home = tmp_path / "home"
    with running(home) as server, server.client() as client:
        ids = [
            send(client, f"{name}AAUSDT-1m.csv", many).json()["import_id"] for name in ("A", "B")
        ]
        wait_for(lambda: client.get(f"{BASE}/{ids[0]}").json()["rows_read"], bool)
        assert server.stop() == 0
    assert listed(home) == {}
    assert left_over(home) == []
    assert "Traceback" not in (home / "server.log").read_text()


def test_an_import_belongs_to_the_account_that_sent_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    keys = {
        "ann": make_key(home, "ann", is_admin=True),
        "bob": make_key(home, "bob", is_admin=True),
        "eve": make_key(home, "eve"),
    }
    with running(home) as server:
        clients = {name: server.client(key) for name, key in keys.items()}
        try:
            refused(send(clients["eve"], "BTCUSDT-1m.csv", b"x"), 403, "FORBIDDEN")
            answer = send(clients["ann"], "BTCUSDT-1m.csv", csv_text(rows(5)))
            assert outcome(clients["ann"], answer)["state"] == "completed"
            path = f"{BASE}/{answer.json()['import_id']}"
            refused(clients["bob"].get(path), 404, "NOT_FOUND")
            refused(clients["eve"].get(path), 403, "FORBIDDEN")
            with server.client() as nobody:
                refused(nobody.get(path), 401, "UNAUTHORIZED")
            assert series(clients["eve"]) == ["BTCUSDT"]
        finally:
            for client in clients.values():
                client.close()


def test_stepping_goes_on_next_to_an_import(tmp_path: Path) -> None:
    """Requests are answered while a file is received and imported."""
    home = tmp_path / "home"
    with running(home) as server, server.client() as client, server.client() as other:
        answers: list[httpx.Response] = []
        many = csv_text(rows(200_000)).encode()
        sending = threading.Thread(
            target=lambda: answers.append(send(other, "BTCUSDT-1m.csv", many))
        )
        sending.start()
        while sending.is_alive():
            assert client.get("/health").status_code == 200
        sending.join()
        assert outcome(client, answers[0])["state"] == "completed"


def test_the_document_describes_the_body(client: httpx.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"][BASE]["post"]
    assert list(operation["requestBody"]["content"]) == ["application/octet-stream"]
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert names == {
        "file", "symbol", "interval", "exchange", "time_format", "date", "decimal", "no_volume",
        "as_dates", "dry_run", "kind", "perp",
    }  # fmt: skip
    assert all("description" in parameter["schema"] for parameter in operation["parameters"])
    assert "413" in operation["responses"]


def test_every_option_of_the_command_can_be_sent() -> None:
    renamed = {"files": "file", "day": "date", "is_trial": "dry_run", "is_perp": "perp"}
    names = {renamed.get(name, name) for name in ImportFiles.__struct_fields__}
    assert set(ImportQuery.__struct_fields__) == names


def test_a_command_and_a_client_import_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1m.csv.gz", csv_text(rows(50)))
    with running(tmp_path / "home") as server, server.client() as client:
        done = outcome(client, send(client, path.name, path.read_bytes()))
        assert done["imported"][0]["rows"] == 50
        assert listed(server.home) == {"BTCUSDT": 50}
