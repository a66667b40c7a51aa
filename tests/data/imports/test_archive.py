"""Downloads from an archive: verified, resumed and retried, against a local server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from candlestep.data.errors import DownloadFailed
from candlestep.data.imports.archive import ArchivedMonth, fetch_month, months
from candlestep.data.imports.importer import import_file
from candlestep.data.store.database import Store
from candlestep.sandbox import InvalidParameter, InvalidSymbol
from tests.support.archive_server import Archive

MONTH = "2024-01"
WAITS = (0.0, 0.0, 0.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Archive]:
    server = Archive(tmp_path / "server")
    yield server
    server.close()


def fetch(server: Archive, tmp_path: Path, symbol: str = "BTCUSDT") -> Path | None:
    return fetch_month(
        ArchivedMonth(symbol, MONTH),
        tmp_path / "downloads",
        base_url=server.base_url,
        retry_waits=WAITS,
    )


def ranges(server: Archive) -> list[str | None]:
    return [wanted for name, wanted in server.requests if name.endswith(".zip")]


def test_a_month_is_fetched_verified_and_imported(server: Archive, tmp_path: Path) -> None:
    content = server.publish("BTCUSDT", MONTH)
    path = fetch(server, tmp_path, "btc/usdt")
    assert path is not None
    assert (path.name, path.read_bytes()) == ("BTCUSDT-1m-2024-01.zip", content)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    store = Store.open(tmp_path / "home")
    summary = import_file(store, path)[0]
    store.close()
    assert (summary.symbol, summary.interval, summary.rows) == ("BTCUSDT", 60_000, 2000)


def test_what_is_complete_is_not_fetched_again(server: Archive, tmp_path: Path) -> None:
    server.publish("BTCUSDT", MONTH)
    assert fetch(server, tmp_path) == fetch(server, tmp_path)
    assert ranges(server) == [None]
    renewed = server.publish("BTCUSDT", MONTH, count=1500)
    path = fetch(server, tmp_path)
    assert path is not None
    assert path.read_bytes() == renewed


def test_a_missing_month_is_none(server: Archive, tmp_path: Path) -> None:
    assert fetch(server, tmp_path) is None
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_broken_connection_is_resumed(server: Archive, tmp_path: Path) -> None:
    content = server.publish("BTCUSDT", MONTH)
    server.cut_after = [1000, 500]
    path = fetch(server, tmp_path)
    assert path is not None
    assert path.read_bytes() == content
    assert ranges(server) == [None, "bytes=1000-", "bytes=1500-"]


def test_a_partial_file_of_an_earlier_run_is_resumed(server: Archive, tmp_path: Path) -> None:
    content = server.publish("BTCUSDT", MONTH)
    server.cut_after = [1000] * 4
    with pytest.raises(DownloadFailed, match="try again later"):
        fetch(server, tmp_path)
    partial = tmp_path / "downloads" / "BTCUSDT-1m-2024-01.zip.partial"
    assert partial.read_bytes() == content[:4000]
    assert fetch(server, tmp_path) is not None
    assert ranges(server)[-1] == "bytes=4000-"


@pytest.mark.parametrize("supports_range", [True, False])
def test_a_partial_file_of_another_version_is_fetched_anew(
    server: Archive, tmp_path: Path, supports_range: bool
) -> None:
    content = server.publish("BTCUSDT", MONTH)
    server.supports_range = supports_range
    partial = tmp_path / "downloads" / "BTCUSDT-1m-2024-01.zip.partial"
    partial.parent.mkdir()
    for old in (b"x" * 1000, b"x" * len(content), b"x" * (len(content) + 1)):
        partial.write_bytes(old)
        path = fetch(server, tmp_path)
        assert path is not None
        assert path.read_bytes() == content
        path.unlink()


def test_a_wrong_checksum_is_refused(server: Archive, tmp_path: Path) -> None:
    server.publish("BTCUSDT", MONTH)
    (checksum,) = server.directory.rglob("*.CHECKSUM")
    checksum.write_text("0" * 64 + "  BTCUSDT-1m-2024-01.zip\n")
    with pytest.raises(DownloadFailed, match="does not have the checksum"):
        fetch(server, tmp_path)
    assert list((tmp_path / "downloads").iterdir()) == []
    checksum.write_text("<html>hello</html>")
    with pytest.raises(DownloadFailed, match="base URL"):
        fetch(server, tmp_path)


def test_trouble_of_the_server_is_waited_out(server: Archive, tmp_path: Path) -> None:
    content = server.publish("BTCUSDT", MONTH)
    server.statuses = [503, 500, 200, 429]
    path = fetch(server, tmp_path)
    assert path is not None
    assert path.read_bytes() == content
    server.statuses = [500] * 4
    with pytest.raises(DownloadFailed, match="answers 500"):
        fetch(server, tmp_path)
    server.statuses = [403]
    with pytest.raises(DownloadFailed, match="answers 403"):
        fetch(server, tmp_path)


def test_an_archive_that_is_not_there(server: Archive, tmp_path: Path) -> None:
    server.close()
    with pytest.raises(DownloadFailed, match="could not be fetched"):
        fetch(server, tmp_path)
    with pytest.raises(InvalidParameter, match="base_url"):
        fetch_month(ArchivedMonth("BTCUSDT", MONTH), tmp_path, base_url="nonsense")
    with pytest.raises(InvalidSymbol):
        fetch_month(ArchivedMonth("../x", MONTH), tmp_path, base_url=server.base_url)


def test_progress_counts_bytes(server: Archive, tmp_path: Path) -> None:
    content = server.publish("BTCUSDT", MONTH)
    server.cut_after = [1000]
    reports: list[tuple[int, int]] = []
    fetch_month(
        ArchivedMonth("BTCUSDT", MONTH), tmp_path / "downloads", base_url=server.base_url,
        progress=lambda done, total: reports.append((done, total)), retry_waits=WAITS,
    )  # fmt: skip
    assert reports[0] == (1000, len(content))
    assert reports[-1] == (len(content), len(content))


def test_months() -> None:
    assert months("2023-11", "2024-02") == ["2023-11", "2023-12", "2024-01", "2024-02"]
    assert months("2024-02", "2024-02") == ["2024-02"]
    for first, last in (("2024-02", "2024-01"), ("2024", "2025"), ("2024-13", "2025-01")):
        with pytest.raises(InvalidParameter):
            months(first, last)
