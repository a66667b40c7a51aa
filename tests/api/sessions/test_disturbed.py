"""Sessions evicted, lost, forked and retried at random end like undisturbed ones.

The recording of the session, like that of every fork, replays from the start without a difference.
"""

import itertools
import tempfile
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.api.replay.local_target import LocalTarget, RecordedMarket, local_session
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
from candlestep.api.sessions.player import CommandPlayer, recorded_config
from candlestep.api.sessions.recovery import Diverged, config_of, rebuild_session, start_record
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
    Oco,
    Place,
    Refusal,
    Replace,
    Step,
    market_of,
    serialised,
    session_config,
)

MAX_PENDING = 1000
DISTURBANCES = ("none", "none", "evicted", "lost", "forked")


def session_record(case: Case, session_id: str) -> SessionRecord:
    """Return the row that the store would hold for a session of this case."""
    config = case.config
    slippage: dict[str, str] = {"model": config.slippage}
    if config.slippage == "fixed_bps":
        slippage["bps"] = config.bps
    empty: dict[str, Any] = dict.fromkeys(SessionRecord.__struct_fields__)
    return SessionRecord(
        **empty
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
    """A session with a journal, hosted as the server hosts it, that a test disturbs."""

    def __init__(
        self, record_of: Callable[[str], SessionRecord], market: Market, home: Path
    ) -> None:
        """Start a session in ``home``; ``record_of`` returns the stored row of each id."""
        self.record_of = record_of
        self.market = market
        self.journals = Journals(home, synced=False)
        self.ids = itertools.count(1)
        record = record_of("bt_0")
        config = recorded_config(config_of(record), record.risk_profile)
        player = CommandPlayer(Session(config, self.market))
        start = start_record(record, player.session, None)
        journal = self.journals.create(start)
        self.hosted = HostedSession(record, player, journal, 0, ReplyCache(), None)

    def evict(self) -> None:
        """Compact the journal and rebuild the session from it."""
        assert self.hosted.journal is not None
        self.hosted.journal.compact(self.hosted.replies)
        self.lose()

    def lose(self) -> None:
        """Discard the session in memory and rebuild it from its journal."""
        old = self.hosted
        assert old.journal is not None
        old.journal.close()
        session_id = old.record.session_id
        self.hosted = restore_session(old.record, self.journals.read(session_id), self.market)
        self.hosted.journal = self.journals.open(session_id)
        assert (self.hosted.final, self.hosted.position) == (old.final, old.position)
        session = self.hosted.session
        at, is_cancelled = self.journals.last_step(session_id)
        assert at == session.step_number
        assert is_cancelled == (session.status == "cancelled")

    def fork(self) -> None:
        """Replace the session by a fork of it."""
        session_id = f"bt_{next(self.ids)}"
        fork = self.hosted.fork([session_id], "", 0, None)
        origin = self.hosted
        start = start_record(origin.record, origin.session, None)
        forked_record = self.record_of(session_id)
        journal = self.journals.create(forked_start(start, fork, session_id))
        self.hosted = HostedSession(
            forked_record, origin.player.fork(), journal, origin.commands, ReplyCache(), None
        )
        if origin.session.status == "running":
            origin.step(1)  # The fork must not notice.

    def apply(self, command: PlayedCommand, key: IdempotencyKey | None) -> object:
        """Return the session's reply or refusal; a retry gets the first reply again."""
        try:
            stored = None if key is None else self.hosted.replies.find(key)
            if stored is not None:
                return stored.body.decode()
            reply = self.hosted.apply(command, key, MAX_PENDING)
        except SandboxError as error:
            return Refusal(error.code)
        return reply.body.decode() if reply.refusal is None else Refusal(reply.refusal.code)


def disturbed_session(case: Case, home: Path) -> Disturbed:
    """Return a session of a case that can be disturbed."""
    return Disturbed(partial(session_record, case), market_of(case.market), home)


def hosted_command(command: Command) -> PlayedCommand:
    """Return a command of a case in the form in which the routes hand it to the host."""
    match command:
        case Oco() | Replace():
            raise AssertionError("the cases of this test have none")
        case Place():
            return OrderCommand(body_of(command))
        case Cancel():
            return CancelOrderCommand(command.order_id)
        case Step():
            return StepCommand(command.steps)
        case End():
            return CancelCommand()


def body_of(order: Place) -> OrderRequest:
    """Return an order in the form in which a client sends it."""
    expires_at = None if order.expires_at is None else format_time(order.expires_at)
    return OrderRequest(**vars(order) | {"expires_at": expires_at})


def everything(session: Session) -> str:
    """Return all that can be read of a session, serialised."""
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
    """Return a recording as it is downloaded, which is complete without those of its origins."""
    lines = whole_recording(journals.read(session_id))
    recording = recording_of(records_of(lines, needs_crc=True))
    assert recording.start.forked_from is None
    assert not any(isinstance(record, ForkRecord) for record in recording.records)
    assert b'"key":' not in lines
    return recording


@settings(max_examples=60)
@given(cases(), st.data())
def test_a_disturbed_session_ends_as_the_undisturbed_one(case: Case, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as home:
        disturbed = disturbed_session(case, Path(home))
        undisturbed = CommandPlayer(Session(session_config(case.config), disturbed.market))
        for number, command in enumerate(case.commands):
            expected = reply_of(undisturbed, command)
            kind = data.draw(st.sampled_from(DISTURBANCES))
            if disturbed.hosted.final is None:
                if kind == "forked":
                    disturbed.fork()
                elif kind == "evicted":
                    disturbed.evict()
            if kind == "lost":
                disturbed.lose()
            has_key = data.draw(st.booleans()) and not isinstance(command, Cancel)
            key = IdempotencyKey(f"key {number}", "body") if has_key else None
            reply = disturbed.apply(hosted_command(command), key)
            if disturbed.hosted.final is None or not isinstance(command, End | Step):
                assert reply == expected
            if key is not None and disturbed.hosted.final is None and isinstance(reply, str):
                disturbed.lose()
                assert disturbed.apply(hosted_command(command), key) == reply
        assert everything(disturbed.hosted.session) == everything(undisturbed.session)
        disturbed.lose()
        assert everything(disturbed.hosted.session) == everything(undisturbed.session)
        recording = downloaded(disturbed.journals, disturbed.hosted.record.session_id)
        recorded_market = RecordedMarket(disturbed.market, None)
        open_target = partial(local_session, recording.start, recorded_market)
        replayed = replay(recording, open_target, lambda done, total: None)
        assert replayed.is_same, replayed
        lines = re_record(recording, LocalTarget(recording.start, recorded_market), lambda *_: None)
        assert replay(
            recording_of(records_of(lines, needs_crc=True)),
            open_target,
            lambda *_: None,
        ).is_same


def reply_of(player: CommandPlayer, command: Command) -> object:
    """Return the reply or refusal of a session that has no journal."""
    try:
        match command:
            case Place():
                reply = player.order(body_of(command))
                if reply.refusal is not None:
                    return Refusal(reply.refusal.code)
            case Cancel():
                reply = player.cancel_order(command.order_id)
            case Step():
                reply = player.step(command.steps)
            case End():
                reply = player.cancel()
    except SandboxError as error:
        return Refusal(error.code)
    return reply.body.decode()


@settings(max_examples=30)
@given(cases(), st.data())
def test_other_candles_are_told_by_symbol_and_month(case: Case, data: st.DataObject) -> None:
    """Only candles that the session can read by its end count; later ones may differ."""
    with tempfile.TemporaryDirectory() as home:
        disturbed = disturbed_session(case, Path(home))
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
    """Return every number of a market that can be read by a time."""
    numbers: list[Any] = []
    for symbol in market.symbols:
        candles = market.candles_of(symbol)
        rows = slice(0, candles.last_complete(end) + 1)
        columns = (
            candles.open_time, candles.open, candles.high, candles.low, candles.close,
            candles.volume,
        )  # fmt: skip
        numbers += [column[rows].tolist() for column in columns]
        numbers.append(candles.first_open if candles.first_open.time <= end else None)
    return numbers


def recorded(case: Case, home: Path) -> tuple[Disturbed, Recording]:
    """Run a case undisturbed, and return its session and recording."""
    disturbed = disturbed_session(case, home)
    for command in case.commands:
        disturbed.apply(hosted_command(command), None)
    return disturbed, disturbed.journals.read("bt_0")


@settings(max_examples=30)
@given(cases(), st.data())
def test_an_answer_that_is_another_is_found(case: Case, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as home:
        disturbed, recording = recorded(case, Path(home))
        if not recording.records:
            return
        index = data.draw(st.integers(0, len(recording.records) - 1))
        records = list(recording.records)
        records[index] = msgspec.structs.replace(records[index], digest="0" * 16)
        other = Recording(recording.start, records)
        recorded_market = RecordedMarket(disturbed.market, None)
        open_target = partial(local_session, other.start, recorded_market)
        replayed = replay(other, open_target, lambda *_: None)
        assert replayed.divergence is not None
        assert replayed.divergence.line == index + 2
        is_skipped = (
            isinstance(records[index], StepRecord)
            and index + 1 < len(records)
            and isinstance(records[index + 1], StepRecord)
            and records[index + 1].is_quiet  # type: ignore[union-attr]
        )
        if not is_skipped:
            with pytest.raises(Diverged):
                rebuild_session(other, disturbed.market, ReplyCache())


def test_the_latest_keys_are_kept_and_another_body_is_refused() -> None:
    replies = ReplyCache()
    for number in range(KEYS_KEPT + 10):
        replies.keep(f"{number}", stored_reply(number))
    assert list(replies) == [f"{number}" for number in range(10, KEYS_KEPT + 10)]
    assert replies.size == KEYS_KEPT
    assert replies.find(IdempotencyKey("9", "b")) is None
    assert replies.find(IdempotencyKey("10", "b")) == stored_reply(10)
    with pytest.raises(InvalidParameter, match="another request"):
        replies.find(IdempotencyKey("10", "c"))


def stored_reply(number: int) -> StoredReply:
    return StoredReply("b", 200, str(number % 10).encode())
