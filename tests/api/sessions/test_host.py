"""Sessions come and go between memory and disk while many calls ask for them at once."""

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import pytest

import candlestep.api.sessions.repository
from candlestep.api.http.route import JsonBytes, Request
from candlestep.api.sessions import pool, progress
from candlestep.api.sessions.host import SessionHost
from candlestep.api.sessions.hosted_session import HostedSession
from candlestep.api.sessions.idempotency import IdempotencyKey
from candlestep.api.sessions.player import Reply
from candlestep.api.sessions.repository import SessionRepository
from candlestep.api.settings import Settings
from candlestep.api.threads import Threads
from candlestep.data.errors import BudgetInUse, StorageUnavailable
from candlestep.data.journal.journal import DIRECTORY
from candlestep.data.journal.recording import records_of
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.records.accounts import default_agent, ensure_account
from candlestep.data.records.sessions import create_session, get_session, running_sessions
from candlestep.data.store.database import Store
from candlestep.sandbox import SandboxError, parse_time
from candlestep.sandbox.clock import MINUTE
from tests.support.api_client import sample_home

ROOM_FOR_ONE = 12_000_000
"""Bytes: two months of one symbol's minutes are 9.7 MB."""

Result = TypeVar("Result")


class Sessions(NamedTuple):
    """A hub, and what it works with."""

    hub: SessionHost
    store: Store
    cache: CandleCache
    threads: Threads


def with_hub(
    home: Path, test: Callable[[Sessions], Awaitable[Result]], memory_budget: int = ROOM_FOR_ONE
) -> Result:
    """Run a test of a hub over the sample market; it must come to its end."""
    store = Store.open(sample_home(home))

    async def run() -> Result:
        settings = Settings(home=home, memory_budget=memory_budget)
        threads = Threads()
        cache = CandleCache(store, memory_budget)
        hub = SessionHost(settings, store, cache, threads)
        try:
            async with asyncio.timeout(60):
                return await test(Sessions(hub, store, cache, threads))
        finally:
            await hub.close()
            threads.close()

    try:
        return asyncio.run(run())
    finally:
        store.close()


def created(store: Store, symbol: str = "BTCUSDT") -> Request:
    """A call that names a new session of some days of one symbol."""
    account = ensure_account(store, "ann").account_id
    agent = default_agent(store, account).agent_id
    start, end = parse_time("2025-02-10T00:00:00Z"), parse_time("2025-02-13T00:00:00Z")
    record = create_session(
        store,
        account,
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
    )
    return Request(account, agent, {"session_id": record.session_id}, None, None, "req")


async def started(hub: SessionHost, store: Store, symbol: str = "BTCUSDT") -> Request:
    call = created(store, symbol)
    await hub.start(call)
    return call


def one_step(live: HostedSession, request: IdempotencyKey | None) -> Reply:
    return live.step(1, request)


def stepping(hub: SessionHost, call: Request) -> Awaitable[JsonBytes]:
    return hub.perform(call, "step", one_step)


def finding(hub: SessionHost, call: Request) -> Awaitable[HostedSession]:
    return hub.memory.find(call.account_id, call.path["session_id"])


def test_a_session_is_loaded_once_however_many_ask_for_it(tmp_path: Path) -> None:
    async def test(sessions: Sessions) -> None:
        hub, store = sessions.hub, sessions.store
        calls = [await started(hub, store) for _ in range(30)]
        await hub.memory.passivate(hub.memory.running)
        assert not hub.memory.running
        asked = [call for call in calls for _ in range(3)]
        random.Random(1).shuffle(asked)
        found = await asyncio.gather(*(finding(hub, call) for call in asked))
        by_id: dict[str, set[int]] = {}
        for live in found:
            by_id.setdefault(live.record.session_id, set()).add(id(live))
        assert [len(lives) for lives in by_id.values()] == [1] * 30

    with_hub(tmp_path, test)


@pytest.mark.parametrize("seed", range(3))
def test_calls_that_make_room_for_each_other_all_come_to_their_end(
    tmp_path: Path, seed: int
) -> None:
    """There is room for the candles of one symbol, and those of both are asked for at once."""

    async def test(sessions: Sessions) -> None:
        hub, store = sessions.hub, sessions.store
        symbols = ("BTCUSDT", "ETHUSDT")
        calls = [await started(hub, store, symbol) for symbol in symbols * 3]
        asked = calls * 10
        random.Random(seed).shuffle(asked)
        await asyncio.gather(*(stepping(hub, call) for call in asked))
        records = [await hub.record(call.account_id, call.path["session_id"]) for call in calls]
        assert [record.current_step for record in records] == [10] * len(calls)

    with_hub(tmp_path, test)


def test_sessions_make_room_for_the_candles_of_jobs(tmp_path: Path) -> None:
    async def test(sessions: Sessions) -> None:
        hub, store, cache, threads = sessions
        call = await started(hub, store, "BTCUSDT")

        def load() -> list[str]:
            record = get_session(store, call.account_id, call.path["session_id"])
            return list(
                cache.candles("binance", ["ETHUSDT"], 2, record.start_time, record.end_time)
            )

        with pytest.raises(BudgetInUse):
            load()
        assert await hub.memory.with_room(threads.run_loading, load) == ["ETHUSDT"]
        assert not hub.memory.running
        assert (await finding(hub, call)).session.step_number == 0

    with_hub(tmp_path, test)


def test_what_is_still_to_be_stored_of_a_session_keeps_neither_it_nor_what_is_newer(
    tmp_path: Path,
) -> None:
    async def step(hub: SessionHost, call: Request, steps: int) -> None:
        await hub.perform(call, "step/batch", lambda live, request: live.step(steps, request))

    async def test(sessions: Sessions) -> None:
        hub, store = sessions.hub, sessions.store
        calls = [await started(hub, store, symbol) for symbol in ("BTCUSDT", "ETHUSDT")]
        for _ in range(3):
            for call in calls:  # There is room for the candles of one.
                await step(hub, call, 510)
        await step(hub, calls[0], 10)
        for call, expected in zip(calls, (1540, 1530), strict=True):
            record = await hub.record(call.account_id, call.path["session_id"])
            assert record.current_step == expected
        await hub.memory.passivate(hub.memory.running)
        await hub.close()
        for call, expected in zip(calls, (1540, 1530), strict=True):
            assert (
                get_session(store, call.account_id, call.path["session_id"]).current_step
                == expected
            )

    with_hub(tmp_path, test)


def test_progress_made_while_older_is_being_stored_is_stored_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storing, go_on = threading.Event(), threading.Event()
    written: list[dict[str, int]] = []

    def slowly(store: Store, steps: dict[str, int]) -> None:
        written.append(steps)
        storing.set()
        assert go_on.wait(30)

    async def test(sessions: Sessions) -> None:
        monkeypatch.setattr(progress, "save_progress", slowly)
        session_progress = progress.SessionProgress(sessions.store, sessions.threads)
        session_progress.left("bt_1", 500)
        first = asyncio.create_task(session_progress.store())
        while not storing.is_set():
            await asyncio.sleep(0)
        session_progress.left("bt_1", 510)
        second = asyncio.create_task(session_progress.store())
        go_on.set()
        await asyncio.gather(first, second)
        assert written == [{"bt_1": 500}, {"bt_1": 510}]
        assert session_progress.left_at("bt_1") is None

    with_hub(tmp_path, test)


def test_a_fork_whose_sessions_are_found_before_it_is_over_counts_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, go_on = threading.Event(), threading.Event()
    store_fork = SessionRepository.fork

    def slowly(*args: Any) -> Any:
        done = store_fork(*args)
        made.set()
        assert go_on.wait(30)
        return done

    async def test(sessions: Sessions) -> None:
        hub, store = sessions.hub, sessions.store
        call = await started(hub, store)
        monkeypatch.setattr(SessionRepository, "fork", slowly)
        forking = asyncio.create_task(hub.fork(call, None, 2))
        while not made.is_set():
            await asyncio.sleep(0)
        ids = [each.session_id for each in running_sessions(store)]
        others = [
            msgspec.structs.replace(call, path={"session_id": each})
            for each in ids
            if each != call.path["session_id"]
        ]
        assert len(others) == 2
        await stepping(hub, others[0])
        go_on.set()
        await forking
        assert hub.memory.open_sessions == 3
        assert [(await finding(hub, each)).session.step_number for each in others] == [1, 0]

    with_hub(tmp_path, test)


def test_who_finds_no_room_waits_for_those_in_use_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_ROOM_SECONDS", 0.3)
    monkeypatch.setattr(pool, "_ROOM_PAUSE", 0.1)

    async def test(sessions: Sessions) -> None:
        hub, store = sessions.hub, sessions.store
        live = await finding(hub, await started(hub, store, "BTCUSDT"))
        other = created(store, "ETHUSDT")
        tries = 0
        load = CandleCache.candles

        def counted(*args: Any) -> Any:
            nonlocal tries
            tries += 1
            return load(*args)

        monkeypatch.setattr(CandleCache, "candles", counted)
        await hub.memory.hold(live)
        with pytest.raises(BudgetInUse):
            await hub.start(other)
        assert tries <= 5
        monkeypatch.setattr(pool, "_ROOM_SECONDS", 30)
        waiting = asyncio.create_task(hub.start(other))
        while not hub.memory._loads:
            await asyncio.sleep(0)
        hub.memory.release(live)
        del live  # And with it the candles.
        assert (await waiting).session.step_number == 0
        assert len(hub.memory.running) == 1

    with_hub(tmp_path, test)


def test_a_recording_is_whole_while_the_session_steps_and_its_journal_is_compacted(
    tmp_path: Path,
) -> None:
    async def test(sessions: Sessions) -> None:
        hub, store = sessions.hub, sessions.store
        call = await started(hub, store)
        session_id = call.path["session_id"]
        is_over = False

        async def step() -> None:
            for number in range(1000):
                await stepping(hub, call)
                if number % 50 == 49:
                    await hub.memory.passivate(hub.memory.running)

        async def read() -> int:
            count, last = 0, 0
            while not is_over:
                data = await hub.recording(call.account_id, session_id)
                steps = [each.record.at for each in records_of(data, needs_crc=True)]
                assert last <= (steps[-1] or 0)
                last, count = steps[-1] or 0, count + 1
            return count

        reading = asyncio.create_task(read())
        await step()
        is_over = True
        assert await reading > 10

    with_hub(tmp_path, test)


def test_a_command_that_breaks_leaves_the_session_as_its_journal_has_it(tmp_path: Path) -> None:
    async def test(sessions: Sessions) -> None:
        hub, store = sessions.hub, sessions.store
        call = await started(hub, store)
        await stepping(hub, call)

        def broken(live: HostedSession, request: IdempotencyKey | None) -> Reply:
            live.session.step(5)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await hub.perform(call, "step", broken)
        assert (await finding(hub, call)).session.step_number == 1
        with pytest.raises(SandboxError):
            await hub.perform(call, "step", lambda live, request: live.cancel_order(7))
        assert (await finding(hub, call)).session.step_number == 1

    with_hub(tmp_path, test)


def test_a_fork_that_cannot_be_stored_leaves_no_journals_and_is_made_when_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise StorageUnavailable("the disk is full")

    async def test(sessions: Sessions) -> None:
        hub, store = sessions.hub, sessions.store
        call = msgspec.structs.replace(await started(hub, store), key="again")
        with monkeypatch.context() as patch:
            patch.setattr(candlestep.api.sessions.repository, "fork_session", refuse)
            with pytest.raises(StorageUnavailable):
                await hub.fork(call, None, 2)
        assert [each.stem for each in (tmp_path / DIRECTORY).iterdir()] == [call.path["session_id"]]
        made = await hub.fork(call, None, 2)
        for session_id in made.sessions:
            forked = msgspec.structs.replace(call, path={"session_id": session_id}, key=None)
            assert (await hub.record(call.account_id, session_id)).status == "running"
            await stepping(hub, forked)
        assert {each.stem for each in (tmp_path / DIRECTORY).iterdir()} == {
            call.path["session_id"], *made.sessions,
        }  # fmt: skip

    with_hub(tmp_path, test)
