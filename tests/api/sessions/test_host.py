"""The session host loads, evicts and reloads sessions while many commands want them at once."""

import asyncio
import json
import random
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import pytest

from candlestep.api.schemas.orders import OrderRequest
from candlestep.api.sessions.commands import (
    CancelCommand,
    CancelOrderCommand,
    ForkCommand,
    OrderCommand,
    SessionRef,
    StartCommand,
    StepCommand,
)
from candlestep.api.sessions.host import SessionHost
from candlestep.api.sessions.hosted_session import HostedSession
from candlestep.api.sessions.idempotency import IdempotencyKey
from candlestep.api.sessions.player import CommandPlayer, Reply
from candlestep.api.sessions.repository import SessionRepository
from candlestep.api.settings import Settings
from candlestep.api.threads import ProgressWriter, Threads
from candlestep.data.errors import BudgetInUse, StorageUnavailable
from candlestep.data.journal.journal import DIRECTORY, Journal, Journals
from candlestep.data.journal.recording import records_of
from candlestep.data.journal.records import ForkRecord
from candlestep.data.market.candle_cache import CandleCache, CandleRequest
from candlestep.data.market.catalogue import Catalogue
from candlestep.data.records.accounts import default_agent, ensure_account
from candlestep.data.records.sessions import (
    JournalPosition,
    NewSession,
    SessionRecord,
    create_session,
    fork_session,
    get_session,
    running_sessions,
)
from candlestep.data.store.database import Store
from candlestep.sandbox import InvalidParameter, InvalidState, SandboxError, parse_time
from candlestep.sandbox.clock import MINUTE
from tests.support.api_client import sample_home
from tests.support.patience import PATIENCE

ROOM_FOR_ONE = 7_000_000
"""Bytes: two months of one symbol's minutes are 5.5 MB."""

Result = TypeVar("Result")
Forked = list[tuple[SessionRecord, Journal]]


class Hosting(NamedTuple):
    """A session host and the services that it uses."""

    host: SessionHost
    store: Store
    cache: CandleCache
    threads: Threads


def with_host(
    home: Path,
    test: Callable[[Hosting], Awaitable[Result]],
    *,
    repository_type: Callable[..., SessionRepository] = SessionRepository,
    threads_type: Callable[[], Threads] = Threads,
    room_seconds: float = PATIENCE,
    max_pending_orders: int = 1000,
) -> Result:
    """Run a test against a host over the sample market; fail it if it hangs."""
    store = Store.open(sample_home(home))

    async def run() -> Result:
        settings = Settings(
            home=home, memory_budget=ROOM_FOR_ONE, max_pending_orders=max_pending_orders
        )
        threads = threads_type()
        cache = CandleCache(store, ROOM_FOR_ONE)
        host = SessionHost(
            settings,
            store,
            Catalogue(store),
            cache,
            threads,
            repository_type(store, cache, Journals(home, synced=False)),
        )
        host.pool.room_seconds = room_seconds
        try:
            async with asyncio.timeout(PATIENCE):
                return await test(Hosting(host, store, cache, threads))
        finally:
            await host.close()
            threads.close()

    try:
        return asyncio.run(run())
    finally:
        store.close()


def created(store: Store, symbol: str = "BTCUSDT") -> SessionRef:
    """Create a session over three days of one symbol."""
    account = ensure_account(store, "ann").account_id
    agent = default_agent(store, account).agent_id
    start, end = parse_time("2025-02-10T00:00:00Z"), parse_time("2025-02-13T00:00:00Z")
    record = create_session(
        store,
        account,
        NewSession(
            agent_id=agent,
            exchange="binance",
            strategy_label="",
            pairs=[symbol],
            start_time=start,
            end_time=end,
            interval=MINUTE,
            starting_balance=Decimal(10_000),
            total_steps=(end - start) // MINUTE,
            config={},
            risk_profile={},
        ),
    )
    return SessionRef(account, record.session_id)


async def started(host: SessionHost, store: Store, symbol: str = "BTCUSDT") -> SessionRef:
    """Create and start a session over three days of one symbol."""
    ref = created(store, symbol)
    await host.apply(ref, StartCommand())
    return ref


def stepping(host: SessionHost, ref: SessionRef, steps: int = 1) -> Awaitable[Reply]:
    return host.apply(ref, StepCommand(steps))


def test_a_session_is_loaded_once_however_many_ask_for_it(tmp_path: Path) -> None:
    async def test(hosting: Hosting) -> None:
        host, store = hosting.host, hosting.store
        refs = [await started(host, store) for _ in range(30)]
        await host.pool.evict(host.pool.running)
        assert not host.pool.running
        wanted = [ref for ref in refs for _ in range(3)]
        random.Random(1).shuffle(wanted)
        sessions = await asyncio.gather(*(host.find(ref) for ref in wanted))
        by_id: dict[str, set[int]] = {}
        for hosted in sessions:
            by_id.setdefault(hosted.record.session_id, set()).add(id(hosted))
        assert [len(objects) for objects in by_id.values()] == [1] * 30

    with_host(tmp_path, test)


@pytest.mark.parametrize("seed", range(3))
def test_commands_that_make_room_for_each_other_all_come_to_their_end(
    tmp_path: Path, seed: int
) -> None:
    """The budget holds the candles of one symbol while commands need those of two."""

    async def test(hosting: Hosting) -> None:
        host, store = hosting.host, hosting.store
        symbols = ("BTCUSDT", "ETHUSDT")
        refs = [await started(host, store, symbol) for symbol in symbols * 3]
        stepped = refs * 10
        random.Random(seed).shuffle(stepped)
        await asyncio.gather(*(stepping(host, ref) for ref in stepped))
        records = [await host.record(ref) for ref in refs]
        assert [record.current_step for record in records] == [10] * len(refs)

    with_host(tmp_path, test)


def test_sessions_make_room_for_the_candles_of_jobs(tmp_path: Path) -> None:
    async def test(hosting: Hosting) -> None:
        host, store, cache, threads = hosting
        ref = await started(host, store, "BTCUSDT")

        def load() -> list[str]:
            record = get_session(store, *ref)
            return list(
                cache.candles(
                    CandleRequest("binance", ["ETHUSDT"], 2, record.start_time, record.end_time)
                )
            )

        with pytest.raises(BudgetInUse):
            load()
        assert await host.pool.with_room(threads.run_loading, load) == ["ETHUSDT"]
        assert not host.pool.running
        assert (await host.find(ref)).session.step_number == 0

    with_host(tmp_path, test)


def test_what_is_still_to_be_stored_of_a_session_keeps_neither_it_nor_what_is_newer(
    tmp_path: Path,
) -> None:
    async def test(hosting: Hosting) -> None:
        host, store = hosting.host, hosting.store
        refs = [await started(host, store, symbol) for symbol in ("BTCUSDT", "ETHUSDT")]
        for _ in range(3):
            for ref in refs:  # The budget holds the candles of one of them.
                await stepping(host, ref, 510)
        await stepping(host, refs[0], 10)
        for ref, expected in zip(refs, (1540, 1530), strict=True):
            assert (await host.record(ref)).current_step == expected
        await host.pool.evict(host.pool.running)
        await host.close()
        for ref, expected in zip(refs, (1540, 1530), strict=True):
            assert get_session(store, *ref).current_step == expected

    with_host(tmp_path, test)


async def leave_memory(host: SessionHost, ref: SessionRef) -> JournalPosition:
    assert await host.pool.evict(host.pool.running) == 1
    await host.pool.progress.flush()
    return JournalPosition(3, 1)


async def cancel(host: SessionHost, ref: SessionRef) -> JournalPosition:
    await host.apply(ref, CancelCommand())
    return JournalPosition(3, 2)


async def leave_memory_and_end(host: SessionHost, ref: SessionRef) -> JournalPosition:
    await leave_memory(host, ref)
    return await cancel(host, ref)


async def leave_memory_and_fail(host: SessionHost, ref: SessionRef) -> JournalPosition:
    position = await leave_memory(host, ref)
    await host.pool.fail(await host.record(ref), "for the test")
    return position


@pytest.mark.parametrize("is_list", [True, False])
@pytest.mark.parametrize(
    "meanwhile", [leave_memory, cancel, leave_memory_and_end, leave_memory_and_fail]
)
def test_what_was_read_before_a_session_went_on_shows_no_earlier_step(
    tmp_path: Path,
    is_list: bool,
    meanwhile: Callable[[SessionHost, SessionRef], Awaitable[JournalPosition]],
) -> None:
    """The rows are read, then what memory knew of the session is stored, and only then do the rows
    arrive."""
    is_slow, is_read, may_go_on = threading.Event(), threading.Event(), threading.Event()

    class SlowThreads(Threads):
        async def read(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if not is_slow.is_set():
                return await super().read(work, *args, **kwargs)
            is_slow.clear()

            def read_and_wait() -> Any:
                rows = work(*args, **kwargs)
                is_read.set()
                assert may_go_on.wait(PATIENCE)
                return rows

            return await super().read(read_and_wait)

    async def test(hosting: Hosting) -> None:
        host, store = hosting.host, hosting.store
        ref = await started(host, store)
        await stepping(host, ref, 3)
        is_slow.set()
        reading: asyncio.Task[Any] = asyncio.create_task(
            host.list(ref.account_id) if is_list else host.pool.record(ref)
        )
        while not is_read.is_set():
            await asyncio.sleep(0)
        position = await meanwhile(host, ref)
        may_go_on.set()
        found = await reading
        shown = found[0][0] if is_list else found
        assert shown.position == position
        assert host.pool.progress.get(ref.session_id) is None, "nothing is kept for nobody"

    with_host(tmp_path, test, threads_type=SlowThreads)


def test_a_start_that_waits_for_room_does_not_hold_up_the_end_of_the_server(tmp_path: Path) -> None:
    async def test(hosting: Hosting) -> None:
        host, store = hosting.host, hosting.store
        ref, waiting = await started(host, store), created(store, "ETHUSDT")
        hosted = await host.find(ref)
        await host.pool.acquire(hosted)
        starting = asyncio.create_task(host.apply(waiting, StartCommand()))
        while not host.pool.is_loading:
            await asyncio.sleep(0)
        hosting.threads.stop_all_long()
        with pytest.raises(StorageUnavailable, match="the server stops; nothing was changed"):
            await asyncio.wait_for(starting, PATIENCE)
        assert get_session(store, *waiting).status == "created"
        host.pool.release(hosted)

    with_host(tmp_path, test)


def test_what_was_read_before_a_session_was_started_has_no_steps(tmp_path: Path) -> None:
    async def test(hosting: Hosting) -> None:
        host = hosting.host
        ref = created(hosting.store)
        read = await host.record(ref)
        await host.apply(ref, StartCommand())
        await stepping(host, ref, 3)
        assert host.pool.up_to_date(read) == read

    with_host(tmp_path, test)


def test_a_session_that_fails_keeps_the_steps_that_memory_knew(tmp_path: Path) -> None:
    async def test(hosting: Hosting) -> None:
        host, store = hosting.host, hosting.store
        ref = await started(host, store)
        await stepping(host, ref, 3)
        await host.pool.evict(host.pool.running)
        (tmp_path / DIRECTORY / f"{ref.session_id}.jsonl").write_bytes(b"{}\n")
        with pytest.raises(InvalidState):
            await host.find(ref)
        failed = get_session(store, *ref)
        assert (failed.status, failed.position) == ("failed", JournalPosition(3, 1))

    with_host(tmp_path, test)


@pytest.mark.parametrize("end", [StepCommand(10_000), CancelCommand()])
def test_an_end_that_is_in_the_journal_but_not_saved_is_told_as_done(
    tmp_path: Path, end: StepCommand | CancelCommand
) -> None:
    failures = [3]

    class FullRepository(SessionRepository):
        def save(self, hosted: HostedSession) -> None:
            if failures[0]:
                failures[0] -= 1
                raise StorageUnavailable("the disk is full")
            super().save(hosted)

    async def test(hosting: Hosting) -> None:
        host, store = hosting.host, hosting.store
        ref = await started(host, store)
        with pytest.raises(StorageUnavailable, match="is done and will be saved") as caught:
            await host.apply(ref, end)
        assert caught.value.details == {"applied": True}
        while get_session(store, *ref).status == "running":
            with suppress(StorageUnavailable):
                await host.apply(ref, end)
        assert get_session(store, *ref).completed_at is not None
        assert failures == [0]

    with_host(tmp_path, test, repository_type=FullRepository)


def test_progress_made_while_older_is_being_stored_is_stored_too(tmp_path: Path) -> None:
    storing, may_finish = threading.Event(), threading.Event()
    written: list[Mapping[str, int]] = []

    def save_slowly(steps: Mapping[str, int]) -> None:
        written.append(steps)
        storing.set()
        assert may_finish.wait(PATIENCE)

    async def test(hosting: Hosting) -> None:
        progress = ProgressWriter[int](partial(hosting.threads.run, save_slowly))
        progress.note("bt_1", 500, soon=False)
        first = asyncio.create_task(progress.flush())
        while not storing.is_set():
            await asyncio.sleep(0)
        progress.note("bt_1", 510, soon=False)
        second = asyncio.create_task(progress.flush())
        may_finish.set()
        await asyncio.gather(first, second)
        assert written == [{"bt_1": 500}, {"bt_1": 510}]
        assert progress.get("bt_1") is None

    with_host(tmp_path, test)


def test_a_fork_whose_sessions_are_found_before_it_is_over_counts_them_once(
    tmp_path: Path,
) -> None:
    stored, may_finish = threading.Event(), threading.Event()

    class SlowRepository(SessionRepository):
        def fork(self, hosted: HostedSession, fork: ForkRecord) -> Forked:
            forked = super().fork(hosted, fork)
            stored.set()
            assert may_finish.wait(PATIENCE)
            return forked

    async def test(hosting: Hosting) -> None:
        host, store = hosting.host, hosting.store
        ref = await started(host, store)
        forking = asyncio.create_task(host.apply(ref, ForkCommand(2)))
        while not stored.is_set():
            await asyncio.sleep(0)
        ids = [record.session_id for record in running_sessions(store)]
        forks = [SessionRef(ref.account_id, name) for name in ids if name != ref.session_id]
        assert len(forks) == 2
        await stepping(host, forks[0])
        may_finish.set()
        await forking
        assert host.pool.open_count == 3
        assert [(await host.find(fork)).session.step_number for fork in forks] == [1, 0]

    with_host(tmp_path, test, repository_type=SlowRepository)


@pytest.mark.parametrize("is_freed", [False, True])
def test_who_finds_no_room_waits_for_those_in_use_but_not_for_ever(
    tmp_path: Path, is_freed: bool
) -> None:
    starts = 0

    class CountingRepository(SessionRepository):
        def start(self, record: SessionRecord, key: IdempotencyKey | None) -> HostedSession:
            nonlocal starts
            starts += 1
            return super().start(record, key)

    async def test(hosting: Hosting) -> None:
        nonlocal starts
        host, store = hosting.host, hosting.store
        hosted = await host.find(await started(host, store, "BTCUSDT"))
        other = created(store, "ETHUSDT")
        starts = 0
        await host.pool.acquire(hosted)
        waiting = asyncio.create_task(host.apply(other, StartCommand()))
        if not is_freed:
            with pytest.raises(BudgetInUse):
                await waiting
            assert starts <= 5
            return
        while not host.pool.is_loading:
            await asyncio.sleep(0)
        host.pool.release(hosted)
        del hosted  # Its candles can be freed only once nothing refers to it.
        await waiting
        assert (await host.find(other)).session.step_number == 0
        assert len(host.pool.running) == 1

    room_seconds = PATIENCE if is_freed else 0.3
    with_host(tmp_path, test, repository_type=CountingRepository, room_seconds=room_seconds)


def test_an_evicted_session_that_is_held_for_a_moment_keeps_nobody_out(tmp_path: Path) -> None:
    refused = threading.Event()

    class NotingRepository(SessionRepository):
        def start(self, record: SessionRecord, key: IdempotencyKey | None) -> HostedSession:
            try:
                return super().start(record, key)
            except BudgetInUse:
                refused.set()
                raise

    async def test(hosting: Hosting) -> None:
        host, store = hosting.host, hosting.store
        hosted = await host.find(await started(host, store, "BTCUSDT"))
        await host.pool.evict([hosted])
        starting = asyncio.create_task(host.apply(created(store, "ETHUSDT"), StartCommand()))
        while not refused.is_set():
            await asyncio.sleep(0)
        del hosted
        await starting
        assert len(host.pool.running) == 1

    with_host(tmp_path, test, repository_type=NotingRepository)


def test_a_look_at_journals_keeps_no_evicted_session_in_memory(tmp_path: Path) -> None:
    is_slow, is_looking, may_look = threading.Event(), threading.Event(), threading.Event()

    class SlowThreads(Threads):
        async def read(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if not is_slow.is_set():
                return await super().read(work, *args, **kwargs)

            def wait_and_read() -> Any:
                is_looking.set()
                assert may_look.wait(PATIENCE)
                return work(*args, **kwargs)

            return await super().read(wait_and_read)

    async def test(hosting: Hosting) -> None:
        host = hosting.host
        await started(host, hosting.store)
        is_slow.set()
        await host.recover()
        while not is_looking.is_set():
            await asyncio.sleep(0)
        assert await host.pool.make_room()
        hosting.cache.keep_free(ROOM_FOR_ONE)
        try:
            assert hosting.cache.bytes_in_memory() == 0
        finally:
            may_look.set()

    with_host(tmp_path, test, threads_type=SlowThreads)


def test_a_recording_is_whole_while_the_session_steps_and_its_journal_is_compacted(
    tmp_path: Path,
) -> None:
    async def test(hosting: Hosting) -> None:
        host, store = hosting.host, hosting.store
        ref = await started(host, store)
        reads, is_over = 0, False

        async def read() -> None:
            nonlocal reads
            last = 0
            while not is_over:
                lines = await host.recording(ref)
                steps = [line.record.at for line in records_of(lines, needs_crc=True)]
                assert last <= (steps[-1] or 0)
                last, reads = steps[-1] or 0, reads + 1

        reading = asyncio.create_task(read())
        for number in range(1000):
            await stepping(host, ref)
            if number % 50 == 49:
                await host.pool.evict(host.pool.running)
                before = reads
                while reads == before and not reading.done():
                    await asyncio.sleep(0)
        is_over = True
        await reading

    with_host(tmp_path, test)


def test_a_command_that_breaks_leaves_the_session_as_its_journal_has_it(tmp_path: Path) -> None:
    class BrokenPlayer(CommandPlayer):
        def step(self, steps: int, until: Any = "steps") -> Reply:
            super().step(steps, until)
            raise ZeroDivisionError

    async def test(hosting: Hosting) -> None:
        host, store = hosting.host, hosting.store
        ref = await started(host, store)
        await stepping(host, ref)
        hosted = await host.find(ref)
        hosted.player = BrokenPlayer(hosted.session)
        with pytest.raises(ZeroDivisionError):
            await stepping(host, ref, 5)
        assert (await host.find(ref)).session.step_number == 1
        with pytest.raises(SandboxError):
            await host.apply(ref, CancelOrderCommand(7))
        assert (await host.find(ref)).session.step_number == 1

    with_host(tmp_path, test)


def test_a_fork_that_cannot_be_stored_leaves_no_journals_and_is_made_when_asked_for_again(
    tmp_path: Path,
) -> None:
    disk = {"is_full": True}

    def save_forks(*args: Any, **kwargs: Any) -> list[SessionRecord]:
        if disk["is_full"]:
            raise StorageUnavailable("the disk is full")
        return fork_session(*args, **kwargs)

    def journals() -> set[str]:
        return {path.stem for path in (tmp_path / DIRECTORY).iterdir()}

    async def test(hosting: Hosting) -> None:
        host, store = hosting.host, hosting.store
        ref = await started(host, store)
        key = IdempotencyKey("again", "body")
        with pytest.raises(StorageUnavailable):
            await host.apply(ref, ForkCommand(2), key)
        assert journals() == {ref.session_id}
        disk["is_full"] = False
        reply = await host.apply(ref, ForkCommand(2), key)
        forks = [fork["session_id"] for fork in json.loads(reply.body)["forks"]]
        for session_id in forks:
            fork = SessionRef(ref.account_id, session_id)
            assert (await host.record(fork)).status == "running"
            await stepping(host, fork)
        assert journals() == {ref.session_id, *forks}

    with_host(tmp_path, test, repository_type=partial(SessionRepository, save_forks=save_forks))


def test_the_legs_of_a_bracket_count_as_pending_from_the_entry_on(tmp_path: Path) -> None:
    """An entry that fills leaves two orders where one was, and a market order two where none was."""
    limit = OrderRequest(symbol="BTCUSDT", side="buy", type="limit", quantity="0.001", price="5000")
    legs = {"stop_loss": "1000", "take_profit": "900000"}
    bracket = msgspec.structs.replace(limit, **legs)
    market = msgspec.structs.replace(bracket, type="market", price=None)

    async def test(hosting: Hosting) -> None:
        host = hosting.host
        ref = await started(host, hosting.store)

        async def refused(order: OrderRequest, words: str) -> None:
            with pytest.raises(InvalidParameter, match=words):
                await host.apply(ref, OrderCommand(order))

        await host.apply(ref, OrderCommand(bracket))
        await host.apply(ref, OrderCommand(market))
        session = (await host.find(ref)).session
        assert (session.pending_count, session.most_pending) == (3, 4)
        await refused(limit, "with the legs of its brackets")
        await refused(market, "4 pending orders, the maximum")
        await host.apply(ref, CancelOrderCommand(1))
        assert session.most_pending == 2
        for _ in range(2):
            await host.apply(ref, OrderCommand(limit))
        assert session.fork().most_pending == 4
        await refused(limit, "has 4 pending orders, the maximum")

    with_host(tmp_path, test, max_pending_orders=4)
