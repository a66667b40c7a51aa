"""A session that is passivated, lost, forked and retried at random ends as the undisturbed one.

And its recording, and that of each fork, replays from the start without a difference.
"""

import itertools
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.api.replay.local_target import LocalTarget
from candlestep.api.replay.replay import re_record, replay
from candlestep.api.schemas.orders import OrderRequest
from candlestep.api.sessions.commands import (
    CancelCommand,
    CancelOrderCommand,
    OrderCommand,
    StepCommand,
)
from candlestep.api.sessions.hosted_session import HostedSession, PlayedCommand
from candlestep.api.sessions.idempotency import KEYS_KEPT, IdempotencyKey, ReplyCache, StoredReply
from candlestep.api.sessions.player import CommandPlayer
from candlestep.api.sessions.recovery import Diverged, rebuild_session, start_record
from candlestep.api.sessions.repository import forked_start, restore_session, whole_recording
from candlestep.data.journal.candle_fingerprints import CandlesDiffer
from candlestep.data.journal.journal import Journals
from candlestep.data.journal.recording import Recording, recording_of, records_of
from candlestep.data.journal.records import ForkRecord, StepRecord
from candlestep.data.records.sessions import SessionRecord
from candlestep.sandbox import InvalidParameter, Market, SandboxError, Session, format_time
from tests.support.case_strategies import cases, other_futures
from tests.support.session_cases import (
    Cancel,
    Case,
    Command,
    End,
    Place,
    Refusal,
    Step,
    market_of,
    serialised,
    session_config,
)

MAX_PENDING = 1000
DISTURBANCES = ("none", "none", "evicted", "lost", "forked")


def session_record(case: Case, session_id: str) -> SessionRecord:
    """As the store would have it."""
    config = case.config
    slippage: dict[str, str] = {"model": config.slippage}
    if config.slippage == "fixed_bps":
        slippage["bps"] = config.bps
    nothing: dict[str, Any] = dict.fromkeys(SessionRecord.__struct_fields__)
    return SessionRecord(
        **nothing
        | {
            "session_id": session_id,
            "account_id": "ann",
            "exchange": "binance",
            "status": "running",
            "pairs": case.symbols,
            "start_time": config.start,
            "end_time": config.end,
            "interval": config.interval,
            "starting_balance": Decimal(config.balance),
            "config": {
                **session_config(config).costs.fees.settings(),
                "slippage": slippage,
                "trigger": config.trigger,
                "liquidate_at_end": config.liquidate_at_end,
            },
            "risk_profile": {
                "max_order_size_pct": config.max_order_size_pct,
                "max_position_size_pct": config.max_position_size_pct,
                "daily_loss_limit_pct": config.daily_loss_limit_pct,
            },
        }
    )


class Disturbed:
    """A session of a case with a journal, as the server keeps it."""

    def __init__(self, case: Case, home: Path) -> None:
        self.case = case
        self.market = market_of(case.market)
        self.journals = Journals(home, synced=False)
        self.ids = itertools.count(1)
        player = CommandPlayer(Session(session_config(case.config), self.market))
        record = session_record(case, "bt_0")
        start = start_record(record, player.session, 0, None)
        self.hosted = HostedSession(record, player, self.journals.create(start), ReplyCache(), None)

    def evict(self) -> None:
        """Compact the journal, and rebuild the session from it."""
        assert self.hosted.journal is not None
        self.hosted.journal.compact(self.hosted.replies)
        self.lose()

    def lose(self) -> None:
        """Rebuild the session from what its journal has."""
        old = self.hosted
        assert old.journal is not None
        old.journal.close()
        session_id = old.record.session_id
        self.hosted = restore_session(old.record, self.journals.read(session_id), self.market)
        self.hosted.journal = self.journals.open(session_id)
        assert self.hosted.final == old.final
        session = self.hosted.session
        at, is_cancelled = self.journals.last_step(session_id)
        assert at == session.step_number
        assert is_cancelled == (session.status == "cancelled")

    def fork(self) -> None:
        """Go on with a fork, and leave its origin behind."""
        session_id = f"bt_{next(self.ids)}"
        fork = self.hosted.fork([session_id], "", 0, None)
        origin = self.hosted
        start = start_record(origin.record, origin.session, 0, None)
        forked_record = session_record(self.case, session_id)
        journal = self.journals.create(forked_start(start, fork, session_id))
        self.hosted = HostedSession(
            forked_record, origin.player.fork(), journal, ReplyCache(), None
        )
        if origin.session.status == "running":
            origin.step(1)  # Of no concern to the fork.

    def apply(self, command: Command, key: IdempotencyKey | None) -> object:
        """Return the session's reply or refusal; for a retry, the first one."""
        try:
            stored = None if key is None else self.hosted.replies.find(key)
            if stored is not None:
                return stored.body.decode()
            reply = self.hosted.apply(hosted_command(command), key, MAX_PENDING)
        except SandboxError as error:
            return Refusal(error.code)
        return reply.body.decode() if reply.refusal is None else Refusal(reply.refusal.code)


def hosted_command(command: Command) -> PlayedCommand:
    """Return the command of a case as doors send it."""
    match command:
        case Place():
            return OrderCommand(body_of(command))
        case Cancel():
            return CancelOrderCommand(command.order_id)
        case Step():
            return StepCommand(command.steps)
        case End():
            return CancelCommand()


def body_of(order: Place) -> OrderRequest:
    """The order as a client sends it."""
    expires_at = None if order.expires_at is None else format_time(order.expires_at)
    return OrderRequest(**vars(order) | {"expires_at": expires_at})


def everything(session: Session) -> str:
    return serialised(
        (
            session.status,
            session.time,
            session.orders,
            session.fills,
            session.portfolio(),
            session.snapshots(),
            session.results(),
        )
    )


def downloaded(journals: Journals, session_id: str) -> Recording:
    """A recording as it is downloaded, which is whole by itself."""
    lines = whole_recording(journals.read(session_id))
    found = recording_of(records_of(lines, needs_crc=True))
    assert found.start.forked_from is None
    assert not any(isinstance(each, ForkRecord) for each in found.records)
    assert b'"key":' not in lines
    return found


@settings(max_examples=60)
@given(cases(), st.data())
def test_a_disturbed_session_ends_as_the_undisturbed_one(case: Case, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as home:
        disturbed = Disturbed(case, Path(home))
        undisturbed = CommandPlayer(Session(session_config(case.config), disturbed.market))
        for number, command in enumerate(case.commands):
            expected = answer(undisturbed, command)
            kind = data.draw(st.sampled_from(DISTURBANCES))
            if disturbed.hosted.final is None:
                if kind == "forked":
                    disturbed.fork()
                elif kind == "evicted":
                    disturbed.evict()
            if kind == "lost":
                disturbed.lose()
            is_kept = data.draw(st.booleans()) and not isinstance(command, Cancel)
            key = IdempotencyKey(f"key {number}", "body") if is_kept else None
            found = disturbed.apply(command, key)
            if disturbed.hosted.final is None or not isinstance(command, End | Step):
                assert found == expected
            if key is not None and disturbed.hosted.final is None and isinstance(found, str):
                disturbed.lose()
                assert disturbed.apply(command, key) == found
        assert everything(disturbed.hosted.session) == everything(undisturbed.session)
        disturbed.lose()
        assert everything(disturbed.hosted.session) == everything(undisturbed.session)
        recording = downloaded(disturbed.journals, disturbed.hosted.record.session_id)
        target = LocalTarget(recording.start, disturbed.market)
        replayed = replay(recording, target, lambda done, total: None)
        assert replayed.is_same, replayed
        again = re_record(
            recording, LocalTarget(recording.start, disturbed.market), lambda *_: None
        )
        assert replay(
            recording_of(records_of(again, needs_crc=True)),
            LocalTarget(recording.start, disturbed.market),
            lambda *_: None,
        ).is_same


def answer(player: CommandPlayer, command: Command) -> object:
    """What a session without any journal answers."""
    try:
        match command:
            case Place():
                played = player.order(body_of(command))
                if played.refusal is not None:
                    return Refusal(played.refusal.code)
            case Cancel():
                played = player.cancel_order(command.order_id)
            case Step():
                played = player.step(command.steps)
            case End():
                played = player.cancel()
    except SandboxError as error:
        return Refusal(error.code)
    return played.body.decode()


@settings(max_examples=30)
@given(cases(), st.data())
def test_other_candles_are_told_by_symbol_and_month(case: Case, data: st.DataObject) -> None:
    """Those that the session can read to its end; of later ones, nothing is said."""
    with tempfile.TemporaryDirectory() as home:
        disturbed = Disturbed(case, Path(home))
        recording = disturbed.journals.read("bt_0")
        end = case.config.start + case.config.total_steps * case.config.interval
        later = market_of(data.draw(other_futures(case, end)))
        rebuild_session(recording, later, ReplyCache())
        middle = data.draw(st.integers(case.config.start, end))
        other = market_of(data.draw(other_futures(case, middle)))
        if readable(other, end) == readable(disturbed.market, end):
            rebuild_session(recording, other, ReplyCache())
        else:
            with pytest.raises(CandlesDiffer) as caught:
                rebuild_session(recording, other, ReplyCache())
            different = caught.value.details["symbols"]
            assert set(different) <= set(case.symbols)
            assert all(months for months in different.values())


def readable(market: Market, end: int) -> list[Any]:
    """Every number that can be read of a market by a time."""
    found: list[Any] = []
    for symbol in market.symbols:
        line = market.candles_of(symbol)
        rows = slice(0, line.last_complete(end) + 1)
        columns = (line.open_time, line.open, line.high, line.low, line.close, line.volume)
        found += [column[rows].tolist() for column in columns]
        found.append(line.first_open if line.first_open.time <= end else None)
    return found


def recorded(case: Case, home: Path) -> tuple[Disturbed, Recording]:
    disturbed = Disturbed(case, home)
    for command in case.commands:
        disturbed.apply(command, None)
    return disturbed, disturbed.journals.read("bt_0")


@settings(max_examples=30)
@given(cases(), st.data())
def test_an_answer_that_is_another_is_found(case: Case, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as home:
        disturbed, recording = recorded(case, Path(home))
        if not recording.records:
            return
        place = data.draw(st.integers(0, len(recording.records) - 1))
        changed = list(recording.records)
        changed[place] = msgspec.structs.replace(changed[place], digest="0" * 16)
        other = Recording(recording.start, changed)
        replayed = replay(other, LocalTarget(other.start, disturbed.market), lambda *_: None)
        assert replayed.divergence is not None
        assert replayed.divergence.line == place + 2
        is_skipped = (
            isinstance(changed[place], StepRecord)
            and place + 1 < len(changed)
            and isinstance(changed[place + 1], StepRecord)
            and changed[place + 1].is_quiet  # type: ignore[union-attr]
        )
        if not is_skipped:
            with pytest.raises(Diverged):
                rebuild_session(other, disturbed.market, ReplyCache())


def test_the_latest_keys_are_kept_and_another_body_is_refused() -> None:
    keys = ReplyCache()
    for number in range(KEYS_KEPT + 10):
        keys.keep(f"{number}", kept(number))
    assert list(keys) == [f"{number}" for number in range(10, KEYS_KEPT + 10)]
    assert keys.size == KEYS_KEPT
    assert keys.find(IdempotencyKey("9", "b")) is None
    assert keys.find(IdempotencyKey("10", "b")) == kept(10)
    with pytest.raises(InvalidParameter, match="another request"):
        keys.find(IdempotencyKey("10", "c"))


def kept(number: int) -> StoredReply:
    return StoredReply("b", 200, str(number % 10).encode())
