"""Sessions on perpetuals behind the hosting: as in process, however they are disturbed."""

import tempfile
from contextlib import suppress
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
from candlestep.api.replay.saved_session import save_session
from candlestep.api.schemas.orders import OrderRequest, ReplaceRequest
from candlestep.api.schemas.sessions import CreateRequest
from candlestep.api.sessions.commands import (
    CancelCommand,
    CancelOrderCommand,
    MarginCommand,
    OcoCommand,
    OrderCommand,
    ReplaceOrderCommand,
    StepCommand,
)
from candlestep.api.sessions.creation import SessionCreator
from candlestep.api.sessions.hosted_session import PlayedCommand
from candlestep.api.sessions.idempotency import IdempotencyKey
from candlestep.api.sessions.player import CommandPlayer
from candlestep.api.sessions.repository import SessionRepository
from candlestep.api.settings import Settings
from candlestep.data.imports.importer import import_candles, import_funding, import_tiers
from candlestep.data.imports.sample import sample_perpetual
from candlestep.data.journal.candle_fingerprints import fingerprint
from candlestep.data.journal.journal import Journals
from candlestep.data.journal.recording import read_recording, recording_of, records_of
from candlestep.data.journal.records import (
    LeverageRecord,
    MarginModeRecord,
    MarginTransferRecord,
)
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.market.catalogue import Catalogue
from candlestep.data.records.accounts import default_agent, ensure_account
from candlestep.data.records.sessions import SessionRecord
from candlestep.data.store.database import Store
from candlestep.data.symbols import parse_symbol
from candlestep.sandbox import (
    FundingRates,
    InvalidParameter,
    MarginTiers,
    Market,
    NoPrice,
    SandboxError,
    Session,
    format_time,
    parse_time,
)
from candlestep.sandbox.clock import MINUTE
from tests.api.sessions.test_disturbed import DISTURBANCES, MAX_PENDING, Disturbed, downloaded
from tests.support.perpetual_cases import (
    Case,
    Command,
    Oco,
    Place,
    Replace,
    SetLeverage,
    SetMarginMode,
    Transfer,
)
from tests.support.perpetual_markets import BTC, bars, perp_session
from tests.support.perpetual_sessions import apply, market_of, session_config
from tests.support.perpetual_strategies import cases, other_futures
from tests.support.session_cases import Cancel, End, Step, serialised

PERP = "SOLUSDT-PERP"


def session_record(case: Case, session_id: str) -> SessionRecord:
    """Return the row that the store would hold for a session of this case."""
    config = session_config(case.config, case.symbols)
    assert config.margin is not None
    empty: dict[str, Any] = dict.fromkeys(SessionRecord.__struct_fields__)
    return SessionRecord(
        **empty
        | {
            "session_id": session_id,
            "account_id": "ann",
            "exchange": "binance",
            "status": "running",
            "pairs": case.symbols,
            "start_time": config.start_time,
            "end_time": config.end_time,
            "interval": config.clock.interval,
            "starting_balance": Decimal(case.config.balance),
            "config": {
                **config.costs.fees.settings(),
                "slippage": config.costs.slippage_settings(),
                "trigger": config.trigger,
                "liquidate_at_end": config.liquidate_at_end,
                "allow_gaps": True,
                "market_type": "perp",
                **config.margin.settings(),
            },
            "risk_profile": {},
        }
    )


def hosted_command(command: Command, session: Session) -> PlayedCommand:
    """Return a command of a case in the form in which the routes hand it to the host."""
    match command:
        case Place():
            return OrderCommand(body_of(command))
        case Oco():
            return OcoCommand([body_of(command.first), body_of(command.second)])
        case Replace():
            order_id = command.order_id([order.id for order in session.open_orders()])
            return ReplaceOrderCommand(order_id, ReplaceRequest(**command.changes))
        case Cancel():
            return CancelOrderCommand(command.order_id)
        case Step():
            return StepCommand(command.steps)
        case SetLeverage():
            change = LeverageRecord(symbol=command.symbol, leverage=str(command.leverage))
            return MarginCommand(change)
        case SetMarginMode():
            return MarginCommand(MarginModeRecord(symbol=command.symbol, margin_mode=command.mode))
        case Transfer():
            transfer = MarginTransferRecord(symbol=command.symbol, amount=command.amount)
            return MarginCommand(transfer)
        case End():
            return CancelCommand()


def body_of(order: Place) -> OrderRequest:
    """Return an order in the form in which a client sends it."""
    fields: dict[str, Any] = order.instruction
    if order.expires_at is not None:
        fields["expires_at"] = format_time(order.expires_at)
    return OrderRequest(**fields)


def everything(session: Session) -> str:
    """Return all that can be read of a session, serialised."""
    return serialised(
        (
            session.status,
            session.time,
            session.orders,
            session.fills,
            session.positions(),
            session.margin(),
            session.funding_payments,
            session.liquidations,
            session.snapshots(),
            session.results(),
        )
    )


@settings(max_examples=40)
@given(cases(), st.data())
def test_a_disturbed_session_is_as_the_one_in_process(case: Case, data: st.DataObject) -> None:
    """So are its recording, played again, and the recording that is made of the one in process."""
    case = case.with_default_rate()
    with tempfile.TemporaryDirectory() as home:
        market = market_of(case)
        disturbed = Disturbed(partial(session_record, case), market, Path(home))
        in_process = Session(session_config(case.config, case.symbols), market)
        for number, command in enumerate(case.commands):
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
            sent = hosted_command(command, disturbed.hosted.session)
            reply = disturbed.apply(sent, key)
            apply(in_process, command)
            if key is not None and disturbed.hosted.final is None and isinstance(reply, str):
                disturbed.lose()
                assert disturbed.apply(sent, key) == reply
        assert everything(disturbed.hosted.session) == everything(in_process)
        disturbed.lose()
        assert everything(disturbed.hosted.session) == everything(in_process)
        recording = downloaded(disturbed.journals, disturbed.hosted.record.session_id)
        recorded_market = RecordedMarket(disturbed.market, None)
        open_target = partial(local_session, recording.start, recorded_market)
        assert replay(recording, open_target, lambda *_: None).is_same
        lines = re_record(recording, LocalTarget(recording.start, recorded_market), lambda *_: None)
        again = recording_of(records_of(lines, needs_crc=True))
        assert replay(again, open_target, lambda *_: None).is_same


@settings(max_examples=25)
@given(cases(), st.data())
def test_no_answer_depends_on_prices_marks_or_rates_to_come(
    case: Case, data: st.DataObject
) -> None:
    """A digest covers all answers so far, with mark prices, funding and liquidations."""
    case = case.with_default_rate()
    config = case.config
    now = config.start + data.draw(st.integers(0, config.total_steps)) * config.interval
    players = [
        CommandPlayer(Session(session_config(one.config, one.symbols), market_of(one)))
        for one in (case, data.draw(other_futures(case, now)))
    ]
    for command in case.commands:
        time = players[0].session.time
        if isinstance(command, Step) and time + command.steps * config.interval > now:
            break
        for player in players:
            with suppress(SandboxError):
                play(player, hosted_command(command, player.session))
        assert players[0].digest == players[1].digest


def play(player: CommandPlayer, command: PlayedCommand) -> None:
    match command:
        case OrderCommand():
            player.order(command.order)
        case OcoCommand():
            player.oco(command.orders)
        case ReplaceOrderCommand():
            player.replace_order(command.order_id, command.changes)
        case CancelOrderCommand():
            player.cancel_order(command.order_id)
        case StepCommand():
            player.step(command.steps)
        case MarginCommand():
            player.change_margin(command.change)
        case CancelCommand():
            player.cancel()


def short_with_funding(rate: float = 0.0001, mark: float = 100.0) -> tuple[Market, Session]:
    """Return a session with mark prices and a settlement in minute 3, and its market."""
    session = perp_session(
        bars(BTC, *[100.0] * 8),
        marks=[bars(BTC, *[100.0] * 5, mark, *[100.0] * 2)],
        funding=[
            FundingRates(BTC, [0, 3 * MINUTE, 6 * MINUTE], [0.0001, rate, 0.5], [3 * MINUTE] * 3)
        ],
        end_time=5 * MINUTE,
        funding_rate_default=None,
    )
    return session.market, session


def test_marks_and_rates_are_pinned_as_candles_are() -> None:
    """A recording names the line that is another; what comes after the end does not count."""
    market, session = short_with_funding()
    pinned = fingerprint(session.config, market)
    assert list(pinned) == [BTC, f"{BTC}.MARK", f"{BTC}.FUNDING"]
    for line, other in (
        (f"{BTC}.FUNDING", short_with_funding(rate=0.0002)[0]),
        (None, short_with_funding(mark=101.0)[0]),
    ):
        different = fingerprint(session.config, other)
        assert [name for name in pinned if pinned[name] != different[name]] == [line] * bool(line)


def test_a_session_that_has_played_is_saved_with_its_changes_of_margin(tmp_path: Path) -> None:
    """Its orders do not tell of leverage, margin modes and transfers; these are kept apart."""
    _, session = short_with_funding()
    session.set_margin_mode(BTC, "isolated")
    session.place_order(symbol=BTC, side="sell", quantity=10)
    session.set_leverage(BTC, 20)
    session.step(2)
    session.transfer_margin(BTC, 50)
    session.transfer_margin(BTC, "-12.5")
    session.place_order(symbol=BTC, side="buy", quantity=4)
    session.step(10)
    save_session(session, tmp_path / "played.jsonl")
    recording = read_recording(tmp_path / "played.jsonl")
    kinds = [type(record).__name__ for record in recording.records]
    assert [kind.removesuffix("Record") for kind in kinds] == [
        "MarginMode", "Order", "Leverage", "Step", "MarginTransfer", "MarginTransfer", "Order",
        "Step",
    ]  # fmt: skip


def repository_of(home: Path) -> SessionRepository:
    store = Store.open(home)
    return SessionRepository(store, CandleCache(store, 2**30), Journals(home, synced=False))


def created(repository: SessionRepository, **changes: Any) -> SessionRecord:
    """Create a session of two days on the sample's perpetual."""
    store = repository.store
    account = ensure_account(store, "ann").account_id
    request = {
        "start_time": "2025-01-09", "end_time": "2025-01-11", "market_type": "perp",
        "candle_interval": "5m", "pairs": [PERP],
    }  # fmt: skip
    creator = SessionCreator(Settings(home=store.path.parent), store, Catalogue(store))
    body = msgspec.convert(request | changes, CreateRequest)
    return creator.create(account, default_agent(store, account).agent_id, body, None)


def import_perpetual(store: Store, *kinds: str) -> None:
    """Import lines of the sample's perpetual."""
    sample, pair = sample_perpetual(), parse_symbol(PERP)
    if "candles" in kinds:
        import_candles(store, sample.candles, pair, sample.interval, source="test")
    if "mark" in kinds:
        import_candles(store, sample.marks, pair, sample.interval, source="test", kind="mark")
    if "funding" in kinds:
        import_funding(store, sample.funding, pair, source="test")
    if "tiers" in kinds:
        tiers = MarginTiers.parse([{"floor": 0, "mmr": "0.02", "max_leverage": 20}])
        import_tiers(store, tiers, parse_time("2024-01-01"), pair, source="test")


def test_a_session_without_rates_is_not_started_unless_it_has_a_default(tmp_path: Path) -> None:
    repository = repository_of(tmp_path)
    import_perpetual(repository.store, "candles")
    with pytest.raises(NoPrice, match="SOLUSDT-PERP has no funding rate at 2025-01-09T08:00") as no:
        repository.start(created(repository), None)
    assert no.value.details["symbol"] == PERP
    hosted = repository.start(created(repository, funding_rate_default="0.0001"), None)
    hosted.apply(OrderCommand(OrderRequest(symbol=PERP, side="buy", quantity=1)), None, MAX_PENDING)
    hosted.apply(StepCommand(576), None, MAX_PENDING)
    assert {payment.rate for payment in hosted.session.funding_payments} == {Decimal("0.0001")}
    assert len(hosted.session.funding_payments) == 6
    repository.store.close()


def test_marks_rates_and_tiers_are_those_of_the_start(tmp_path: Path) -> None:
    """Lines imported later belong to later sessions; a session is rebuilt from its own."""
    repository = repository_of(tmp_path)
    import_perpetual(repository.store, "candles")
    record = created(repository, funding_rate_default="0.0001", leverage=50)
    hosted = repository.start(record, None)
    short = OrderCommand(OrderRequest(symbol=PERP, side="sell", quantity=100))
    hosted.apply(short, None, MAX_PENDING)
    hosted.apply(StepCommand(200), None, MAX_PENDING)
    expected = everything(hosted.session)
    import_perpetual(repository.store, "mark", "funding", "tiers")
    again = SessionRepository(
        repository.store, CandleCache(repository.store, 2**30), repository.journals
    ).load(hosted.record)
    assert everything(again.session) == expected
    with pytest.raises(InvalidParameter, match="50 is above 20"):
        created(repository, leverage=50)
    later = repository.start(created(repository, leverage=20), None)
    start = recording_of(
        records_of(repository.recording(later.record.session_id, None), needs_crc=True)
    ).start
    assert start.candles is not None
    assert start.days is not None
    assert start.candles.keys() == start.days.keys() == {PERP, f"{PERP}.MARK", f"{PERP}.FUNDING"}
    assert max(start.days[f"{PERP}.FUNDING"]) == "2025-01-10"
    [copied] = start.config["instruments"]
    assert copied["tiers"][0]["mmr"] == "0.02"
    repository.store.close()
