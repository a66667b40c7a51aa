"""The store: opened once, migrated, never damaged, and usable again after a failure."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest

from candlestep.data.errors import NotAStore, StorageUnavailable, StoreLocked, StoreTooNew
from candlestep.data.store.database import FILE_NAME, Part, Store
from candlestep.data.store.migrations import MIGRATIONS
from candlestep.sandbox import InvalidParameter
from tests.support.patience import PATIENCE


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "home")
    yield store
    store.close()


def accounts(store: Store) -> list[str]:
    return [name for (name,) in store.rows("SELECT name FROM accounts ORDER BY name")]


def add(store: Store, name: str) -> None:
    with store.transaction():
        store.execute("INSERT INTO accounts VALUES (?, ?, now()::TIMESTAMP)", name, name)


def add_all(store: Store, *names: str) -> None:
    with store.transaction():
        for name in names:
            add(store, name)


def add_and_raise(store: Store, name: str) -> None:
    with store.transaction():
        add(store, name)
        assert accounts(store) == [name]
        raise RuntimeError("changed my mind")


def add_instrument(store: Store, name: str) -> None:
    with store.transaction("candles"):
        store.execute(
            "INSERT INTO instruments (instrument_id, exchange, symbol, base, quote)"
            " SELECT count(*) + 1, 'binance', ?, ?, 'USDT' FROM instruments",
            f"{name}USDT",
            name,
        )


def instruments(store: Store) -> list[str]:
    return [base for (base,) in store.rows("SELECT base FROM instruments ORDER BY base")]


class Import:
    """A thread in a transaction of the candles, which it commits when it may."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wrote, self._may_commit = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()
        assert self._wrote.wait(PATIENCE)

    def __exit__(self, *_: object) -> None:
        self.commit()
        self._thread.join()

    def commit(self) -> None:
        self._may_commit.set()

    def _run(self) -> None:
        with self._store.transaction("candles"):
            add_instrument(self._store, "BTC")
            self._wrote.set()
            assert self._may_commit.wait(PATIENCE)


def fail_to_write(store: Store) -> None:
    with store.transaction():
        raise duckdb.IOException("no space left on device")


def run(script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "import sys\n" + script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_home_and_file_are_made_and_opened_again(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    store = Store.open(home)
    add(store, "ann")
    store.close()
    store.close()
    assert [path.name for path in home.iterdir()] == [FILE_NAME]
    store = Store.open(str(home))
    assert accounts(store) == ["ann"]
    versions = store.rows("SELECT version FROM schema_version")
    assert versions == [(number + 1,) for number in range(len(MIGRATIONS))]
    store.close()


def test_migrations_are_run_once_and_in_order(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    add(store, "ann")
    store.close()
    further = (
        "CREATE TABLE more (x INTEGER); INSERT INTO more VALUES (1);",
        "UPDATE more SET x = x + 1;",
    )
    for _ in range(2):
        store = Store.open(tmp_path, MIGRATIONS + further)
        assert store.rows("SELECT x FROM more") == [(2,)]
        assert accounts(store) == ["ann"]
        store.close()


def test_a_failed_migration_leaves_the_version_before(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    broken = "CREATE TABLE more (x INTEGER); INSERT INTO nowhere VALUES (1);"
    with pytest.raises(duckdb.Error):
        Store.open(tmp_path, (*MIGRATIONS, broken))
    store = Store.open(tmp_path)
    assert store.rows("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'more'") == [(0,)]
    store.close()


def test_a_newer_store_is_refused_untouched(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with store.transaction():
        store.execute("INSERT INTO schema_version VALUES (99, now()::TIMESTAMP)")
    store.close()
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(StoreTooNew, match="version 99") as caught:
        Store.open(tmp_path)
    assert caught.value.code == "STORAGE_UNAVAILABLE"
    assert (tmp_path / FILE_NAME).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("content", [b"", b"hello" * 1000])
def test_a_file_that_is_no_store_is_refused_untouched(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(NotAStore, match=FILE_NAME):
        Store.open(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == content


@pytest.mark.parametrize("place", [0, 4096, 12288])
def test_a_damaged_store_is_refused_untouched(tmp_path: Path, place: int) -> None:
    Store.open(tmp_path).close()
    path = tmp_path / FILE_NAME
    content = bytearray(path.read_bytes())
    content[place : place + 200] = b"x" * 200
    path.write_bytes(content)
    with pytest.raises(StorageUnavailable, match=FILE_NAME) as caught:
        Store.open(tmp_path)
    assert not isinstance(caught.value, StoreLocked)
    assert path.read_bytes() == content


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / FILE_NAME)) as connection:
        connection.execute("CREATE TABLE theirs (x INTEGER)")
    with pytest.raises(NotAStore, match="not a Candlestep store"):
        Store.open(tmp_path)
    (tmp_path / "taken" / FILE_NAME).mkdir(parents=True)
    with pytest.raises(NotAStore):
        Store.open(tmp_path / "taken")


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnavailable, match="cannot be created"):
        Store.open(tmp_path / "file" / "home")


def test_a_second_process_is_told_who_has_the_store(store: Store) -> None:
    opened = run(
        "from candlestep.data.store.database import Store\nfrom candlestep.data.errors import StoreLocked\n"
        "try:\n    Store.open(sys.argv[1])\n"
        "except StoreLocked as error:\n    print(error.code, error.details['pid'], error)",
        store.path.parent,
    )
    assert opened.stdout.startswith(f"STORAGE_UNAVAILABLE {os.getpid()} ")
    assert f"in use by process {os.getpid()}" in opened.stdout
    add(store, "ann")


def test_twice_in_one_process_is_refused_too(store: Store) -> None:
    with pytest.raises(StoreLocked, match="in this process"):
        Store.open(store.path.parent)
    add(store, "ann")


def test_a_transaction_is_all_or_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError, match="changed my mind"):
        add_and_raise(store, "ann")
    assert accounts(store) == []
    with pytest.raises(duckdb.ConstraintException):
        add_all(store, "ann", "ann")
    assert accounts(store) == []
    add_all(store, "ann", "bob")
    assert accounts(store) == ["ann", "bob"]


def test_writes_need_a_transaction(store: Store) -> None:
    with pytest.raises(RuntimeError, match="transaction"):
        store.execute("DELETE FROM accounts")
    with pytest.raises(RuntimeError, match="transaction"):
        store.insert("INSERT INTO accounts FROM incoming", {"x": np.arange(3)})


def test_other_threads_see_only_what_is_committed(store: Store) -> None:
    seen: list[list[str]] = []

    def look() -> None:
        seen.append(accounts(store))

    with store.transaction():
        add(store, "ann")
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    look()
    assert seen == [[], ["ann"]]


def test_threads_write_one_after_the_other(store: Store) -> None:
    def write(thread: int) -> None:
        for number in range(20):
            with store.transaction():
                (count,) = store.rows("SELECT count(*) FROM accounts")[0]
                add(store, f"{count:03}-{thread}-{number}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [int(name[:3]) for name in accounts(store)] == list(range(80))


def test_records_are_written_and_read_during_an_import(store: Store) -> None:
    with Import(store):
        for name in ("ann", "ben"):
            add(store, name)
        assert accounts(store) == ["ann", "ben"]
        assert instruments(store) == []
    assert instruments(store) == ["BTC"]


def test_imports_are_made_one_after_the_other(store: Store) -> None:
    with Import(store):
        thread = threading.Thread(target=add_instrument, args=(store, "ETH"))
        thread.start()
        add(store, "ann")
    thread.join()
    assert instruments(store) == ["BTC", "ETH"]
    assert store.rows("SELECT max(instrument_id) FROM instruments") == [(2,)]


def test_a_failed_write_of_records_leaves_an_import_alone(tmp_path: Path) -> None:
    class Recovering(Store):
        is_recovering = threading.Event()

        def _recover(self) -> None:
            self.is_recovering.set()
            super()._recover()

    def fail(store: Store) -> None:
        with pytest.raises(StorageUnavailable):
            fail_to_write(store)

    store = Recovering.open(tmp_path)
    thread = threading.Thread(target=fail, args=(store,))
    with Import(store):
        thread.start()
        assert store.is_recovering.wait(PATIENCE)
        add(store, "ann")
    thread.join()
    assert (instruments(store), accounts(store)) == (["BTC"], ["ann"])
    store.close()


def test_a_transaction_inside_another_has_its_parts(store: Store) -> None:
    parts: list[Part] = ["candles", "records"]
    with store.transaction(*parts):
        add(store, "ann")
        add_instrument(store, "BTC")
    with pytest.raises(RuntimeError, match="around this one"), store.transaction("candles"):
        add(store, "ben")
    assert (instruments(store), accounts(store)) == (["BTC"], ["ann"])


KILLED_IMPORT = """
import os, signal, threading
from candlestep.data.store.database import Store

store = Store.open(sys.argv[1])
wrote = threading.Event()

def import_candles():
    with store.transaction("candles"):
        store.execute(
            "INSERT INTO candles SELECT 1, 60, epoch_ms(i * 60000), 1, 1, 1, 1, 1, 1, NULL"
            " FROM range(300000) r(i)")
        wrote.set()
        threading.Event().wait()

threading.Thread(target=import_candles, daemon=True).start()
wrote.wait()
for number in range(200):
    with store.transaction():
        store.execute("INSERT INTO accounts VALUES (?, ?, now()::TIMESTAMP)", f"{number}", f"{number}")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_import_leaves_nothing_and_the_records_beside_it_everything(
    tmp_path: Path,
) -> None:
    assert run(KILLED_IMPORT, tmp_path).returncode < 0
    store = Store.open(tmp_path)
    assert store.rows("SELECT count(*) FROM candles") == [(0,)]
    assert sorted(accounts(store), key=int) == [str(number) for number in range(200)]
    store.close()


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(StorageUnavailable, match="closed"):
        store.rows("SELECT 1")
    with pytest.raises(StorageUnavailable, match="closed"), store.transaction():
        pass


def test_export_is_a_database_of_its_own(store: Store, tmp_path: Path) -> None:
    add(store, "ann")
    copy = tmp_path / "it's a copy.duckdb"
    store.export(copy)
    add(store, "bob")
    with duckdb.connect(str(copy), read_only=True) as connection:
        assert connection.execute("SELECT name FROM accounts").fetchall() == [("ann",)]
        assert connection.execute("SELECT count(*) FROM current_candles").fetchall() == [(0,)]
    assert {path.name for path in tmp_path.iterdir()} == {"home", copy.name}
    assert {path.name for path in store.path.parent.iterdir()} <= {FILE_NAME, FILE_NAME + ".wal"}


def test_an_export_opens_as_a_store(store: Store, tmp_path: Path) -> None:
    add(store, "ann")
    (tmp_path / "other").mkdir()
    store.export(tmp_path / "other" / FILE_NAME)
    other = Store.open(tmp_path / "other")
    add(other, "bob")
    assert accounts(other) == ["ann", "bob"]
    with pytest.raises(duckdb.ConstraintException):
        add(other, "bob")
    other.close()


def test_an_export_leaves_the_threads_as_they_were(store: Store, tmp_path: Path) -> None:
    threads = store.rows("SELECT current_setting('threads')")
    store.export(tmp_path / "copy")
    assert store.rows("SELECT current_setting('threads')") == threads


def test_export_overwrites_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(InvalidParameter, match="exists"):
        store.export(tmp_path / "precious")
    with pytest.raises(InvalidParameter, match="No such file or directory"):
        store.export(tmp_path / "nowhere" / "copy")
    assert (tmp_path / "precious").read_text() == "mine"


FULL_DISK = """
import resource
from candlestep.data.store.database import Store
from candlestep.data.errors import StorageUnavailable

store = Store.open(sys.argv[1])

def add(name):
    with store.transaction():
        store.execute("INSERT INTO accounts VALUES (?, ?, now()::TIMESTAMP)", name, name)

def fill(rows):
    add("before")
    try:
        with store.transaction():
            add(f"with {rows}")
            store.execute(
                "INSERT INTO equity SELECT md5(i::VARCHAR), epoch_ms(i), random(), random(), random(),"
                " random(), random(), random(), random() FROM range(?) r(i)", rows)
    except StorageUnavailable as error:
        print(error.code)
    else:
        print("written")
    print(store.rows("SELECT count(*) FROM equity"), store.rows("SELECT name FROM accounts"))
    with store.transaction():
        store.execute("DELETE FROM accounts")

for rows in (30_000, 1_000_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_200_000, resource.RLIM_INFINITY))
    fill(rows)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    fill(100)
    with store.transaction():
        store.execute("DELETE FROM equity")
store.close()
print(Store.open(sys.argv[1]).rows("SELECT count(*) FROM equity"))
"""


def test_a_full_disk_changes_nothing_and_can_be_mended(tmp_path: Path) -> None:
    """A limit on file sizes makes small and large writes fail as a full disk does."""
    done = run(FULL_DISK, tmp_path)
    assert done.returncode == 0, done.stderr
    failed, written = "STORAGE_UNAVAILABLE\n[(0,)] [('before',)]\n", "written\n[(100,)] "
    good = written + "[('before',), ('with 100',)]\n"
    assert done.stdout == (failed + good) * 2 + "[(0,)]\n"


FULL_DISK_AND_THREADS = """
import resource, signal, sys, threading
from candlestep.data.store.database import Store
from candlestep.data.errors import StorageUnavailable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store.open(sys.argv[1])
turns = [threading.Barrier(5) for _ in range(6)]
done = [0] * len(turns)
statements = {
    "records": "UPDATE schema_version SET migrated_at = now()::TIMESTAMP",
    "candles": "INSERT INTO gaps VALUES (1, 60, 1, now()::TIMESTAMP, now()::TIMESTAMP)",
}

def work(number):
    for turn, barrier in enumerate(turns):
        barrier.wait()
        for _ in range(20):
            try:
                if number % 2:
                    store.rows("SELECT count(*) FROM sessions")
                else:
                    part = ("records", "candles")[number // 2]
                    with store.transaction(part):
                        store.execute(statements[part])
                done[turn] += 1
            except StorageUnavailable:
                pass
        barrier.wait()

def work_or_abort(number):
    try:
        work(number)
    except BaseException:
        for barrier in turns:
            barrier.abort()
        raise

threads = [threading.Thread(target=work_or_abort, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for turn, barrier in enumerate(turns):
    size = (700, 4096, resource.RLIM_INFINITY)[turn % 3]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    barrier.wait()
    barrier.wait()
print([done[turn] for turn in range(2, 6, 3)])
"""


def test_threads_that_live_through_a_full_disk_go_on_after_it(tmp_path: Path) -> None:
    """No thread gets a failed database again, whatever other threads still hold of it."""
    done = run(FULL_DISK_AND_THREADS, tmp_path)
    assert done.returncode == 0, done.stderr
    assert [int(count) for count in done.stdout.strip("[]\n").split(",")] == [80] * 2


def test_readers_go_on_while_a_failed_write_is_mended(store: Store) -> None:
    add(store, "ann")
    seen: list[list[str]] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append([])
            seen[-1] = accounts(store)

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(10):
        with pytest.raises(StorageUnavailable):
            fail_to_write(store)
    done.set()
    thread.join()
    assert seen
    assert all(names == ["ann"] for names in seen)


def test_a_statement_of_a_thread_is_broken_off_and_its_transaction_undone(store: Store) -> None:
    errors: list[Exception] = []

    def work() -> None:
        try:
            with store.transaction():
                add(store, "ann")
                store.rows("SELECT count(*) FROM range(10000000) a, range(10000000) b")
        except duckdb.Error as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        assert thread.ident is not None
        store.interrupt(thread.ident)
        thread.join(0.01)
    assert [type(error) for error in errors] == [duckdb.InterruptException]
    assert accounts(store) == []
    add(store, "ben")
    assert accounts(store) == ["ben"]
