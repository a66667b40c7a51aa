"""A store with a changed block: errors in words by command line and server, and all else as ever."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from candlestep.api.routes import ROUTES
from candlestep.data.errors import StoreDamaged
from candlestep.data.store.database import FILE_NAME, Store
from tests.support.api_client import Api, check_error, sample_home
from tests.support.command_line import candlestep
from tests.support.route_cases import SAMPLES, UNKNOWN_ID
from tests.support.server_process import running
from tests.support.two_accounts import Owned, create_owned

HEADERS_SIZE, BLOCK_SIZE = 3 * 4096, 262_144
COMMANDS = (
    ["data", "list"],
    ["data", "prune"],
    ["data", "drop-sample"],
    ["data", "sample"],
    ["data", "instruments"],
    ["keys", "list"],
    ["keys", "create", "one"],
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Owned]:
    home = sample_home(tmp_path_factory.mktemp("home"))
    with running(home) as server, server.client() as client:
        return home, create_owned(Api(client))


def damaged(content: bytes, block: int) -> bytes:
    """Return the file of a store with some bytes in the middle of a block changed."""
    place = HEADERS_SIZE + block * BLOCK_SIZE + BLOCK_SIZE // 2
    changed = bytes(byte ^ 0xA5 for byte in content[place : place + 8])
    return content[:place] + changed + content[place + 8 :]


def blocks_that_matter(content: bytes, directory: Path) -> Iterator[int]:
    """Yield blocks without which the store can be opened, but not all of it read: of every third."""
    for block in range(0, (len(content) - HEADERS_SIZE) // BLOCK_SIZE, 3):
        (directory / FILE_NAME).write_bytes(damaged(content, block))
        try:
            store = Store.open(directory)
        except StoreDamaged:
            continue
        try:
            for (table,) in store.rows("SELECT table_name FROM duckdb_tables()"):
                store.rows(f"SELECT * FROM {table} LIMIT 100000")
        except StoreDamaged:
            yield block
        finally:
            store.close()


def test_commands_and_requests_on_a_damaged_store_fail_in_words(
    home: tuple[Path, Owned], tmp_path: Path
) -> None:
    directory, owned = home
    content = (directory / FILE_NAME).read_bytes()
    probe = tmp_path / "probe"
    probe.mkdir(mode=0o700)
    blocks = list(blocks_that_matter(content, probe))
    assert len(blocks) > 1
    statuses: set[int] = set()
    codes: set[int] = set()
    for block in blocks[:: max(1, len(blocks) // 2)]:
        (directory / FILE_NAME).write_bytes(damaged(content, block))
        try:
            with running(directory) as server, server.client() as client:
                for session_id in owned.sessions.values():
                    for route in ROUTES:
                        if route.access == "admin" or (route.method == "POST" and route.body):
                            continue
                        parameters = dict.fromkeys(route.parameters, UNKNOWN_ID) | SAMPLES
                        parameters |= {"session_id": session_id, "agent_id": owned.agent_id}
                        answer = client.request(route.method, route.path.format(**parameters))
                        statuses.add(answer.status_code)
                        if answer.status_code >= 500:
                            assert answer.status_code == 503, (block, route.path, answer.text)
                            is_page = answer.headers["content-type"].startswith("text/html")
                            message = answer.text if is_page else check_error(answer)["message"]
                            assert "is damaged" in message, (route.path, message)
        except RuntimeError:
            pass  # What the server needs for its start is in that block.
        assert "Traceback" not in (directory / "server.log").read_text()
        for command in COMMANDS:
            (directory / FILE_NAME).write_bytes(damaged(content, block))
            done = candlestep(*command, "--home", directory)
            codes.add(done.code)
            assert done.code == 0 or "is damaged" in done.err, (block, command, done)
    assert 503 in statuses
    assert codes == {0, 1}
