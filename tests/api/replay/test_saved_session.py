"""Sessions of this process, among them episodes of agents, as recordings that replay."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlestep.api.replay.saved_session import save_session
from candlestep.data import load_market
from candlestep.data.journal.recording import read_recording
from candlestep.data.market import MarketSource
from candlestep.sandbox import InvalidState, Market, RiskProfile, Session, SessionConfig
from candlestep.sandbox.envs import BracketVectorEnv, OrdersEnv, TargetEnv
from tests.support.api_client import sample_home
from tests.support.command_line import candlestep


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_home(tmp_path_factory.mktemp("saved") / "home")


@pytest.fixture(scope="module")
def market(home: Path) -> Market:
    return load_market(home=home)


def replayed(session: Session, path: Path, home: Path) -> None:
    save_session(session, path)
    run = candlestep("replay", path, "--home", home)
    assert run.code == 0, run.out + run.err


def test_an_episode_of_many_is_saved_and_replayed(
    home: Path, market: Market, tmp_path: Path
) -> None:
    """From training to a file that ``candlestep replay`` runs again, fill by fill."""
    env = BracketVectorEnv(
        MarketSource(home, "BTCUSDT"),
        8,
        window=8,
        episode_steps=60,
        record=True,
        autoreset_mode="same_step",
        stop_loss=0.003,
        take_profit=0.004,
        randomize={"fee_rate": (0.0002, 0.002)},
    )
    env.reset(seed=1)
    env.action_space.seed(1)
    total = np.zeros(8)
    for _ in range(60):
        total += env.step(env.action_space.sample())[1]
    best = int(total.argmax())
    session = env.session(best, finished=True)
    assert np.log(float(session.portfolio().total_equity) / 10_000) == pytest.approx(total[best])
    replayed(session, tmp_path / "best.jsonl", home)
    recording = read_recording(tmp_path / "best.jsonl")
    assert recording.start.pairs == ["BTCUSDT"]
    assert len(recording.records) > len(session.orders)


@pytest.mark.parametrize("name", ["weights", "orders", "cancelled", "risk"])
def test_other_sessions_are_saved(name: str, home: Path, market: Market, tmp_path: Path) -> None:
    env: Any
    if name in ("weights", "risk"):
        risk = RiskProfile(max_order_size_pct="60") if name == "risk" else None  # type: ignore[arg-type]
        env = TargetEnv(
            market, symbol=["BTCUSDT", "ETHUSDT"], window=4, episode_steps=30, risk=risk
        )
    else:
        env = OrdersEnv(market, symbol="ETHUSDT", window=4, episode_steps=30)
    env.reset(seed=2)
    env.action_space.seed(2)
    for _ in range(25):
        env.step(env.action_space.sample())
    if name == "cancelled":
        env.session.cancel()
    assert env.session.orders
    replayed(env.session, tmp_path / "session.jsonl", home)


def test_a_sequence_that_orders_do_not_tell_is_refused(market: Market, tmp_path: Path) -> None:
    """A buy that needs the cash which a cancellation in the same step, after it, gave back."""
    config = SessionConfig(start_time="2025-01-05", end_time="2025-01-06", fee_rate=0)
    session = Session(config, market)

    def limit(price: str, quantity: str) -> int:
        order = session.place_order(
            symbol="BTCUSDT", side="buy", type="limit", price=price, quantity=quantity
        )
        return order.id

    first = limit("50000", "0.2")
    session.cancel_order(first)
    limit("50000", "0.2")
    with pytest.raises(InvalidState, match="the sequence of its commands"):
        save_session(session, tmp_path / "session.jsonl")
    assert not list(tmp_path.iterdir())


def test_a_market_by_name_is_loaded_where_it_is_needed(home: Path, market: Market) -> None:
    import pickle

    source = pickle.loads(pickle.dumps(MarketSource(home, ["BTCUSDT"], end="2025-01-20")))
    assert len(pickle.dumps(source)) < 400
    assert source().symbols == ("BTCUSDT",)
    assert repr(source) == (
        f"MarketSource(home={home!r}, symbols=['BTCUSDT'], exchange='binance', end='2025-01-20')"
    )
    env = TargetEnv(source, episode_steps=30)
    assert env.clock.end == 1_737_331_200_000
