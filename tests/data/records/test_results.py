"""Sessions and their results: exact, whole, repeatable, and visible to their account only."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from candlestep.data.errors import SessionNotFound, StorageUnavailable
from candlestep.data.records import results as results_module
from candlestep.data.records.accounts import default_agent, ensure_account
from candlestep.data.records.results import (
    RANKED,
    best_session,
    load_by_pair,
    load_equity,
    load_metrics,
    load_trades,
    save_results,
)
from candlestep.data.records.sessions import (
    SORTABLE,
    JournalPosition,
    NewSession,
    SessionRecord,
    create_session,
    get_session,
    list_sessions,
    pinned_imports,
    running_sessions,
    save_failure,
    save_progress,
    save_start,
)
from candlestep.data.store.database import Store
from candlestep.sandbox import (
    Candles,
    EquityCurve,
    Fill,
    InvalidParameter,
    Market,
    Metrics,
    PairResult,
    Results,
    Session,
    SessionConfig,
    Snapshot,
)
from tests.support.candle_files import MINUTE, START, rows

AMOUNT = st.decimals(-(10**18), 10**18, places=8, allow_nan=False)
PRICE = st.decimals(0, 10**16, places=16, allow_nan=False)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "home")
    yield store
    store.close()


@pytest.fixture
def ann(store: Store) -> str:
    return ensure_account(store, "ann").account_id


def new_session(store: Store, account_id: str, label: str = "momentum_v1") -> SessionRecord:
    return create_session(
        store,
        account_id,
        NewSession(
            agent_id=default_agent(store, account_id).agent_id,
            exchange="binance",
            strategy_label=label,
            pairs=["BTCUSDT", "ETHUSDT"],
            start_time=START,
            end_time=START + 1000 * MINUTE,
            interval=MINUTE,
            starting_balance=Decimal("10000.00000001"),
            total_steps=1000,
            config={"fee_rate": "0.001", "slippage": {"model": "volume"}},
            risk_profile={"max_order_size_pct": "50"},
        ),
    )


def played() -> Session:
    """Return a session that has traded to its end."""
    columns = list(zip(*rows(1200), strict=True))
    market = Market(
        [
            Candles(
                symbol="BTCUSDT", interval="1m", open_time=np.array(columns[0]), open=columns[1],
                high=columns[2], low=columns[3], close=columns[4], volume=columns[5],
            )
        ]
    )  # fmt: skip
    config = SessionConfig(
        start_time=START, end_time=START + 1000 * MINUTE, starting_balance="10000.00000001"
    )
    session = Session(config, market)
    while session.status == "running":
        session.place_order(symbol="BTCUSDT", side="buy", type="market", quantity="0.12345678")
        session.step(7)
        session.place_order(symbol="BTCUSDT", side="sell", type="market", quantity="0.1")
        session.step(90)
    return session


def save(store: Store, record: SessionRecord, session: Session) -> None:
    save_results(
        store,
        record.account_id,
        record.session_id,
        results=session.results(),
        current_step=session.step_number,
        fills=session.fills,
        equity=session.snapshots(),
    )


def stored(store: Store, record: SessionRecord) -> list[Any]:
    names = (record.account_id, record.session_id)
    return [
        load_metrics(store, *names),
        load_by_pair(store, *names),
        load_trades(store, *names),
        load_equity(store, *names),
    ]


def results_of(**changes: Any) -> Results:
    metrics = msgspec.structs.replace(
        Metrics(**dict.fromkeys(Metrics.__struct_fields__)),  # type: ignore[arg-type]
        **{name: value for name, value in changes.items() if name in Metrics.__struct_fields__},
    )
    one = Decimal(1)
    base = Results(
        "completed", one, one, one, 1, one, metrics, by_pair=(), warnings=(), coverage={}
    )
    own = {name: value for name, value in changes.items() if name in Results.__struct_fields__}
    return msgspec.structs.replace(base, **own)


NO_EQUITY = EquityCurve(*[np.empty(0, dtype=np.int64)] * 7)


def end(store: Store, record: SessionRecord, **changes: Any) -> None:
    save_results(
        store, record.account_id, record.session_id, results=results_of(**changes),
        current_step=1000, fills=[], equity=NO_EQUITY,
    )  # fmt: skip


def test_the_metrics_table_has_every_metric(store: Store) -> None:
    """A new metric of the exchange needs a migration."""
    columns = store.rows("SELECT column_name FROM duckdb_columns() WHERE table_name = 'metrics'")
    assert [name for (name,) in columns] == ["session_id", *Metrics.__struct_fields__]


def test_life_of_a_session(store: Store, ann: str) -> None:
    record = new_session(store, ann)
    assert record.session_id.startswith("bt_")
    assert (record.status, record.current_step, record.starting_balance) == (
        "created", 0, Decimal("10000.00000001"),
    )  # fmt: skip
    assert record.config == {"fee_rate": "0.001", "slippage": {"model": "volume"}}
    assert record.pairs == ["BTCUSDT", "ETHUSDT"]
    assert (record.start_time, record.end_time, record.interval) == (
        START, START + 1000 * MINUTE, MINUTE,
    )  # fmt: skip
    assert (record.import_number, record.started_at, record.final_equity) == (None, None, None)
    save_start(store, ann, record.session_id, 7, 5 * MINUTE)
    started = get_session(store, ann, record.session_id)
    assert (started.status, started.import_number, started.look_back) == ("running", 7, 5 * MINUTE)
    assert started.started_at is not None
    assert pinned_imports(store, ()) == [7]
    assert running_sessions(store) == [started]
    position = JournalPosition(500, 12)
    save_progress(store, {record.session_id: position, "bt_unknown": JournalPosition(7, 1)})
    assert get_session(store, ann, record.session_id).position == position
    position = JournalPosition(510, 13)
    save_failure(store, ann, record.session_id, "the engine is newer", position)
    failed = get_session(store, ann, record.session_id)
    assert (failed.status, failed.error) == ("failed", "the engine is newer")
    save_progress(store, {record.session_id: JournalPosition(600, 13)})
    assert get_session(store, ann, record.session_id).position == position, "it has ended"
    assert running_sessions(store) == []
    assert pinned_imports(store, {record.session_id}) == [7]
    assert pinned_imports(store, {"another"}) == [], "without a journal nothing is rebuilt"


def test_results_are_read_back_exactly(store: Store, ann: str) -> None:
    record, session = new_session(store, ann), played()
    save(store, record, session)
    results, names = session.results(), (ann, record.session_id)
    saved = get_session(store, *names)
    for name in ("status", "final_equity", "total_pnl", "roi_pct", "total_trades", "total_fees"):
        assert getattr(saved, name) == getattr(results, name)
    assert saved.sharpe_ratio == results.metrics.sharpe_ratio
    assert saved.max_drawdown_pct == results.metrics.max_drawdown_pct
    assert saved.current_step == 1000
    assert saved.completed_at is not None
    assert load_metrics(store, *names) == results.metrics
    assert load_by_pair(store, *names) == list(results.by_pair)
    assert load_trades(store, *names) == (session.fills, len(session.fills))
    assert len(session.fills) > 20
    curve = list(session.snapshots())
    assert load_equity(store, *names) == curve
    assert load_equity(store, *names, every=7) == curve[::7]
    assert load_trades(store, *names, limit=3, offset=5) == (
        session.fills[5:8], len(session.fills),
    )  # fmt: skip


def test_they_survive_a_restart(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    record, session = new_session(store, ensure_account(store, "ann").account_id), played()
    save(store, record, session)
    before = stored(store, record)
    store.close()
    store = Store.open(tmp_path)
    assert stored(store, record) == before
    store.close()


def test_saving_again_is_the_same(store: Store, ann: str) -> None:
    record, session = new_session(store, ann), played()
    save(store, record, session)
    before, summary = stored(store, record), get_session(store, ann, record.session_id)
    save(store, record, session)
    assert stored(store, record) == before
    assert get_session(store, ann, record.session_id) == summary


class FullStore(Store):
    """A store whose disk is full once equity is written."""

    inserts = 0

    def insert(self, statement: str, columns: Mapping[str, NDArray[Any]]) -> None:
        super().insert(statement, columns)
        self.inserts += 1
        if "INTO equity" in statement:
            raise duckdb.IOException("No space left on device")


def test_all_or_nothing(tmp_path: Path) -> None:
    full = FullStore.open(tmp_path)
    ann = ensure_account(full, "ann").account_id
    record, session = new_session(full, ann), played()
    with pytest.raises(StorageUnavailable, match="nothing was changed"):
        save(full, record, session)
    assert full.inserts == 2
    assert get_session(full, ann, record.session_id) == record
    assert stored(full, record) == [None, [], ([], 0), []]
    full.close()
    store = Store.open(tmp_path)
    save(store, record, session)
    assert len(load_trades(store, ann, record.session_id)[0]) == len(session.fills)
    store.close()


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_decimal_of_the_ledger_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    store = _shared_store(tmp_path_factory)
    account = ensure_account(store, "ann").account_id
    record = new_session(store, account)
    fills = [
        Fill(
            number, number, "BTCUSDT", "buy", "limit", data.draw(AMOUNT), data.draw(PRICE),
            data.draw(AMOUNT), data.draw(AMOUNT), data.draw(PRICE),
            data.draw(st.none() | AMOUNT), START + number, data.draw(st.none() | AMOUNT),
            data.draw(st.none() | AMOUNT), data.draw(st.booleans()),
        )
        for number in range(1, data.draw(st.integers(0, 4)) + 1)
    ]  # fmt: skip
    count = data.draw(st.integers(0, 5))
    whole = (
        st.integers(-(10**37), 10**37) if data.draw(st.booleans()) else st.integers(-(2**62), 2**62)
    )
    units = [
        np.array(column, dtype=object if any(abs(x) >= 2**62 for x in column) else np.int64)
        for column in (data.draw(st.lists(whole, min_size=count, max_size=count)) for _ in range(7))
    ]
    if data.draw(st.booleans()):
        units.pop()  # Funding, which only perpetuals have.
    equity = EquityCurve(np.arange(count, dtype=np.int64) * MINUTE, *units)
    pairs = (PairResult("BTCUSDT", 3, data.draw(st.none() | st.floats(0, 100)), data.draw(AMOUNT)),)
    results = results_of(
        final_equity=data.draw(AMOUNT), total_pnl=data.draw(AMOUNT), roi_pct=data.draw(AMOUNT),
        total_fees=data.draw(AMOUNT), by_pair=pairs, avg_win=data.draw(st.none() | AMOUNT),
        worst_trade=data.draw(AMOUNT), sharpe_ratio=data.draw(st.none() | st.floats(-1e9, 1e9)),
        max_drawdown_duration_days=3, returns_grid="1d", candles_in_market=2**40, capped_fills=2,
        covered_from=data.draw(st.none() | st.integers(-MINUTE, 2**41)), covered_to=7 * MINUTE,
    )  # fmt: skip
    save_results(
        store, account, record.session_id,
        results=results, current_step=9, fills=fills, equity=equity,
    )  # fmt: skip
    saved = get_session(store, account, record.session_id)
    for name in ("final_equity", "total_pnl", "roi_pct", "total_fees"):
        assert getattr(saved, name) == getattr(results, name)
    assert stored(store, record) == [
        results.metrics,
        list(pairs),
        (fills, len(fills)),
        list(equity),
    ]


_STORES: list[Store] = []


def _shared_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    if not _STORES:
        _STORES.append(Store.open(tmp_path_factory.mktemp("home")))
    return _STORES[0]


def test_no_digit_is_rounded_away_or_overflows(store: Store, ann: str) -> None:
    record = new_session(store, ann)
    with pytest.raises(ValueError, match="more than 8 decimal places"):
        end(store, record, total_pnl=Decimal("0.123456789"))
    with pytest.raises(InvalidParameter, match="too large"):
        end(store, record, total_pnl=Decimal(10) ** 30)
    assert get_session(store, ann, record.session_id) == record
    largest = Decimal("9" * 30 + "." + "9" * 8)
    end(store, record, total_pnl=largest, total_fees=Decimal("1.230000000000"))
    saved = get_session(store, ann, record.session_id)
    assert (saved.total_pnl, saved.total_fees) == (largest, Decimal("1.23"))


def test_nothing_of_another_account_exists(store: Store, ann: str) -> None:
    bob = ensure_account(store, "bob").account_id
    record, session = new_session(store, ann), played()
    save(store, record, session)
    names = (bob, record.session_id)
    for read in (get_session, load_metrics, load_by_pair, load_trades, load_equity):
        with pytest.raises(SessionNotFound) as caught:
            read(store, *names)
        assert caught.value.code == "SESSION_NOT_FOUND"
    with pytest.raises(SessionNotFound):
        save_start(store, *names, 1, 0)
    with pytest.raises(SessionNotFound):
        save_failure(store, *names, "x", JournalPosition(0, 0))
    with pytest.raises(SessionNotFound):
        save_results(
            store,
            *names,
            results=session.results(),
            current_step=1,
            fills=[],
            equity=NO_EQUITY,
        )
    assert list_sessions(store, bob) == ([], 0)
    assert best_session(store, bob, "roi_pct") is None
    assert load_trades(store, ann, record.session_id)[1] == len(session.fills)


def test_lists_are_filtered_sorted_and_paged(store: Store, ann: str) -> None:
    labels = ["momentum_v1", "momentum_v2", "mean_reversion", "momentum%", ""]
    records = [new_session(store, ann, label) for label in labels]
    for record, roi in zip(records, (5, 9, None, 7, None), strict=True):
        if roi is not None:
            end(store, record, roi_pct=Decimal(roi))
    by_id = {record.session_id: label for record, label in zip(records, labels, strict=True)}

    def listed(**filters: Any) -> tuple[list[str], int]:
        page, total = list_sessions(store, ann, **filters)
        return [by_id[record.session_id] for record in page], total

    assert listed(strategy_label="momentum", sort_by="roi_pct") == (
        ["momentum_v2", "momentum%", "momentum_v1"], 3,
    )  # fmt: skip
    assert listed(strategy_label="momentum%") == (["momentum%"], 1)
    assert listed(strategy_label="")[1] == 5
    assert sorted(listed(status="created")[0]) == ["", "mean_reversion"]
    assert listed(status="nonsense") == ([], 0)
    assert listed(agent_id=default_agent(store, ann).agent_id)[1] == 5
    assert listed(sort_by="roi_pct", order="asc")[0][:3] == labels[:1] + labels[3:4] + labels[1:2]
    assert listed(sort_by="roi_pct", limit=1, offset=1) == (["momentum%"], 5)
    assert listed(offset=9) == ([], 5)
    for column in SORTABLE:
        for order in ("asc", "desc"):
            assert listed(sort_by=column, order=order)[1] == 5
    for wrong in ({"sort_by": "1; DROP TABLE sessions"}, {"order": "up"}):
        with pytest.raises(InvalidParameter):
            list_sessions(store, ann, **wrong)  # type: ignore[arg-type]


def test_the_best_session(store: Store, ann: str) -> None:
    assert best_session(store, ann, "sharpe_ratio") is None
    records = [new_session(store, ann, f"v{number}") for number in range(4)]
    figures = [(1.5, 10.0, 5), (2.5, 20.0, 9), (None, None, 7)]
    for record, (sharpe, drawdown, pnl) in zip(records, figures, strict=False):
        end(store, record, sharpe_ratio=sharpe, max_drawdown_pct=drawdown, total_pnl=Decimal(pnl))
    end(store, records[3], status="cancelled", sharpe_ratio=99.0, total_pnl=Decimal(99))
    assert best_session(store, ann, "sharpe_ratio") == (records[1].session_id, "v1", 2.5)
    assert best_session(store, ann, "max_drawdown_pct") == (records[0].session_id, "v0", 10.0)
    assert best_session(store, ann, "total_pnl") == (records[1].session_id, "v1", Decimal(9))
    assert best_session(store, ann, "win_rate") is None
    later = new_session(store, ann, "later")
    end(store, later, sharpe_ratio=2.5, max_drawdown_pct=10.0, total_pnl=Decimal(9))
    for metric, label in (("sharpe_ratio", "v1"), ("max_drawdown_pct", "v0"), ("total_pnl", "v1")):
        best = best_session(store, ann, metric)
        assert best is not None
        assert best.strategy_label == label, "of equals the oldest"
    for metric in RANKED:
        best_session(store, ann, metric)
    with pytest.raises(InvalidParameter, match="metric"):
        best_session(store, ann, "returns_grid")


def test_what_is_lower_is_better_is_ranked() -> None:
    assert set(RANKED) >= results_module.LOWER_IS_BETTER


def test_snapshot_columns_are_those_of_the_table(store: Store) -> None:
    columns = store.rows("SELECT column_name FROM duckdb_columns() WHERE table_name = 'equity'")
    assert [name for (name,) in columns][2:] == list(Snapshot.__struct_fields__[1:])
