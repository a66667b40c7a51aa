"""Pickled and copied: the same market and the same session, in this process and in another one."""

import gc
import pickle
from concurrent.futures import ProcessPoolExecutor
from copy import copy, deepcopy
from multiprocessing import get_context
from pathlib import Path
from weakref import ref

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from candlestep.data.market.mapped_candles import open_mapped, write_mapped
from candlestep.sandbox import Candles, Market, Session, SessionConfig
from candlestep.sandbox.clock import DAY, MINUTE
from tests.sandbox.test_fork import everything, run
from tests.support.candles import flat, minutes
from tests.support.case_strategies import cases
from tests.support.session_cases import Case, start_session

MARKET = Market(
    [minutes("BTCUSDT", *[100.0 + i % 7 for i in range(240)]), flat("ETHUSDT", "1h", t0=5.0)]
)
CONFIG = SessionConfig(start_time=0, end_time=240 * MINUTE)


def total_equity_of(session: Session) -> str:
    """Run a session to its end; a function that another process can import."""
    return str(session.step(1000).portfolio.total_equity)


def is_same(some: Candles, others: Candles) -> bool:
    ours, theirs = some.arrays, others.arrays
    return ours[:3] == theirs[:3] and all(
        np.array_equal(column, theirs.columns[name]) for name, column in ours.columns.items()
    )


def test_candles_are_freed_with_the_last_session_that_reads_them() -> None:
    """The memory of a server counts on it: nothing refers to itself, and waits for the collector."""
    series = minutes("BTCUSDT", *[100.0] * 240)
    candles, session = ref(series), Session(CONFIG, Market([series]))
    session.step(10)
    session.results()
    gc.disable()
    try:
        del series, session
        assert candles() is None
    finally:
        gc.enable()


@given(cases(richer=True), st.data(), st.sampled_from([pickle.HIGHEST_PROTOCOL, 2]))
def test_a_pickled_session_goes_on_identically(
    case: Case, data: st.DataObject, protocol: int
) -> None:
    cut = data.draw(st.integers(0, len(case.commands)), label="pickled after")
    session = start_session(case)
    run(session, case.commands[:cut])
    twin: Session = pickle.loads(pickle.dumps(session, protocol))
    assert everything(twin) == everything(session)
    assert run(twin, case.commands[cut:]) == run(session, case.commands[cut:])


@given(cases(richer=True), st.data())
def test_a_copied_session_is_independent(case: Case, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(case.commands)), label="copied after")
    session = start_session(case)
    run(session, case.commands[:cut])
    before = everything(session)
    for twin in (copy(session), deepcopy(session), deepcopy([session])[0]):
        run(twin, case.commands[cut:])
        assert everything(session) == before


def test_a_deep_copy_shares_the_market() -> None:
    session = Session(CONFIG, MARKET)
    assert deepcopy(MARKET) is MARKET
    assert deepcopy(MARKET.candles_of("BTCUSDT")) is MARKET.candles_of("BTCUSDT")
    assert deepcopy(session).market is MARKET


def test_sessions_that_are_pickled_together_share_their_market() -> None:
    session = Session(CONFIG, MARKET)
    both = pickle.loads(pickle.dumps((session, session.fork())))
    assert both[0].market is both[1].market


def test_pickled_candles_are_the_same_and_read_only() -> None:
    merged = Candles.merge([flat("A", "1m", t120=1.0, t121=2.0), flat("A", "1h", t0=7.0, t120=8.0)])
    for candles in (merged, minutes("A", 1.5, 2.0)):
        restored = pickle.loads(pickle.dumps(candles))
        assert is_same(restored, candles)
        assert restored.fingerprint(DAY) == candles.fingerprint(DAY)
        assert not restored.close.flags.writeable


def test_mapped_candles_pickle_as_what_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.candles"
    write_mapped(path, minutes("A", 1.5, 2.0))
    restored = pickle.loads(pickle.dumps(open_mapped(path)))
    path.unlink()
    assert is_same(restored, minutes("A", 1.5, 2.0))


def test_workers_of_another_process_get_sessions_and_markets() -> None:
    session = Session(CONFIG, MARKET)
    session.place_order(symbol="BTCUSDT", side="buy", type="limit", quantity=1, price=99)
    session.place_order(symbol="BTCUSDT", side="buy", type="market", quantity=2)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as workers:
        found = list(workers.map(total_equity_of, [session, session.fork()]))
    assert found == [total_equity_of(session)] * 2
