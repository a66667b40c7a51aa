"""Sessions on perpetuals: what only they have is saved exactly, and only with their end."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from candlestep.data.errors import SessionNotFound
from candlestep.data.records.accounts import default_agent, ensure_account
from candlestep.data.records.margin_results import (
    load_funding,
    load_liquidations,
    load_margin,
    margin_record,
)
from candlestep.data.records.results import load_equity, load_trades, save_results
from candlestep.data.records.sessions import NewSession, SessionRecord, create_session
from candlestep.data.store.database import Store
from candlestep.sandbox import FundingRates, Session
from candlestep.sandbox.clock import MINUTE
from tests.support.perpetual_markets import BTC, ETH, bars, perp_session


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "home")
    yield store
    store.close()


def new_session(store: Store, account_id: str) -> SessionRecord:
    agent_id = default_agent(store, account_id).agent_id
    session = NewSession(
        agent_id=agent_id, exchange="binance", strategy_label="", pairs=[BTC], start_time=0,
        end_time=10 * MINUTE, interval=MINUTE, starting_balance=Decimal(10_000), total_steps=10,
        config={}, risk_profile={},
    )  # fmt: skip
    return create_session(store, account_id, session)


def played() -> Session:
    """Return a session that paid funding at a rate of 22 places and was liquidated after it."""
    session = perp_session(
        bars(BTC, *[60_000.0] * 4, [60_000, 70_000, 60_000, 65_000], 65_000.0, 65_000.0),
        bars(ETH, *[3e-9] * 7),
        funding=[
            FundingRates(BTC, [3 * MINUTE], [3.416666666666667e-07], [MINUTE]),
            FundingRates(ETH, [3 * MINUTE, 4 * MINUTE], [0.0001, -0.01], [MINUTE, MINUTE]),
        ],
        margin_mode="isolated",
        margin_tiers=None,
    )
    session.place_order(symbol=BTC, side="sell", quantity="0.5")
    session.place_order(symbol=ETH, side="buy", quantity=10**11)
    session.step(4)
    session.place_order(symbol=ETH, side="sell", quantity=2 * 10**11)
    session.step(100)
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
        margin=margin_record(session),
    )


def test_what_only_perpetuals_have_is_read_back_exactly(store: Store) -> None:
    ann = ensure_account(store, "ann").account_id
    record, session = new_session(store, ann), played()
    names = (ann, record.session_id)
    assert load_margin(store, *names) is None
    save(store, record, session)
    save(store, record, session)
    results = session.results()
    stored = load_margin(store, *names)
    assert stored is not None
    for name in stored.figures.__struct_fields__:
        assert getattr(stored.figures, name) == getattr(results, name), name
    assert stored.tiers == {
        symbol: {
            "source": "default",
            "tiers": [{"floor": "0", "mmr": "0.004", "cum": "0", "max_leverage": "125"}],
        }
        for symbol in (BTC, ETH)
    }
    payments = session.funding_payments
    total = sum(payment.amount for payment in payments)
    assert load_funding(store, *names) == (payments, 9, total)
    assert Decimal("3.416666666666667e-7") in {payment.rate for payment in payments}
    assert load_funding(store, *names, 1, 1) == (payments[1:2], 9, total)
    assert load_liquidations(store, *names) == session.liquidations
    assert len(session.liquidations) == 1
    assert load_trades(store, *names)[0] == session.fills
    assert [fill.is_liquidation for fill in session.fills] == [False, False, True, False]
    assert load_equity(store, *names) == list(session.snapshots())


def test_nothing_of_another_account_is_shown(store: Store) -> None:
    ann, bob = (ensure_account(store, name).account_id for name in ("ann", "bob"))
    record = new_session(store, ann)
    save(store, record, played())
    for load in (load_margin, load_funding, load_liquidations):
        with pytest.raises(SessionNotFound):
            load(store, bob, record.session_id)
