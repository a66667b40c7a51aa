"""The environment of single orders, and the renderings of all."""

from typing import Any

import numpy as np
import pytest

from candlestep.sandbox import InvalidParameter, Market
from candlestep.sandbox.envs import OrdersEnv, TargetEnv, TargetVectorEnv
from tests.support.environments import MARKET, TWO, played

SHORT: dict[str, Any] = {"window": 4, "episode_steps": 30}
NOTHING, MARKET_ORDER, LIMIT, STOP_LOSS, TAKE_PROFIT, CANCEL = range(6)
BUY, SELL = 0, 1


def reset(market: Market = MARKET, **options: Any) -> OrdersEnv:
    env = OrdersEnv(market, **SHORT, **options)
    env.reset(seed=4)
    return env


def test_a_market_order_spends_its_share_of_the_cash() -> None:
    env = reset()
    info = env.step([MARKET_ORDER, BUY, 1, 0])[4]
    assert info["cash"] == pytest.approx(7_500, abs=0.01)
    assert (info["fills"], info["refused"]) == (1, "")
    info = env.step([MARKET_ORDER, SELL, 3, 0])[4]
    assert (info["quantity"], info["fills"]) == (0, 2)


@pytest.mark.parametrize(
    ("kind", "side", "is_below"),
    [
        (LIMIT, BUY, True),
        (LIMIT, SELL, False),
        (STOP_LOSS, BUY, False),
        (STOP_LOSS, SELL, True),
        (TAKE_PROFIT, BUY, True),
        (TAKE_PROFIT, SELL, False),
    ],
)
def test_a_pending_order_waits_on_its_side_of_the_price(
    kind: int, side: int, is_below: bool
) -> None:
    env = reset()
    if side == SELL:
        env.step([MARKET_ORDER, BUY, 3, 0])
    price = env.session.price("BTCUSDT")
    env.step([kind, side, 0, 2])
    order = env.session.orders[-1]
    assert float(order.trigger / price) == pytest.approx(0.995 if is_below else 1.005)


@pytest.mark.parametrize("side", [BUY, SELL])
def test_other_kinds_of_orders_can_be_chosen(side: int) -> None:
    env = reset(kinds=("market", "stop_limit", "take_profit_limit", "trailing_stop"))
    assert env.action_space.contains(np.array([5, 0, 0, 0]))
    if side == SELL:
        env.step([MARKET_ORDER, BUY, 3, 0])
    way = 1 if side == BUY else -1
    # An offset of 0.5 %; a limit of 1 % for the stop.
    expected = [(1.005, 1.01), (0.995, 0.995), (1.005, None)]
    for kind, (trigger, limit) in enumerate(expected, 2):
        price = env.session.price("BTCUSDT")
        assert env.step([kind, side, 0, 2])[4]["refused"] == ""
        order = env.session.orders[-1]
        assert float(order.trigger / price) == pytest.approx(1 + way * (trigger - 1))
        if limit is not None:
            assert order.price is not None
            assert float(order.price / price) == pytest.approx(1 + way * (limit - 1))
    assert env.step([5, 0, 0, 0])[4]["pending"] == 0
    with pytest.raises(InvalidParameter, match="kinds"):
        OrdersEnv(MARKET, kinds=("iceberg",))  # type: ignore[arg-type]


def test_pending_orders_are_counted_limited_and_cancelled() -> None:
    env = reset(max_pending=2)
    for _ in range(2):
        observation, *_, info = env.step([LIMIT, BUY, 0, 3])
    assert isinstance(observation, np.ndarray)
    if info["pending"] == 2:
        assert observation[-3] == 1
        assert observation[-2] == pytest.approx(0.19, abs=0.02)
        assert env.step([LIMIT, BUY, 0, 3])[4]["refused"] == "max_pending"
    observation, *_, info = env.step([CANCEL, 0, 0, 0])
    assert isinstance(observation, np.ndarray)
    assert info["pending"] == 0
    assert observation[-3] == observation[-2] == 0


def test_an_order_that_the_exchange_refuses_is_told_and_changes_nothing() -> None:
    env = reset()
    info = env.step([MARKET_ORDER, SELL, 3, 0])[4]
    assert info["refused"].startswith("INVALID_PARAMETER: quantity")
    assert (info["fills"], info["equity"]) == (0, 10_000)


def test_wrong_use_is_refused_by_name() -> None:
    env = reset()
    for action in ([6, 0, 0, 0], [1.0, 0, 0, 0], [1, 0, 0], 1):
        with pytest.raises(InvalidParameter, match="action: "):
            env.step(action)
    for options, field in (
        ({"sizes": (0, 1)}, "sizes"),
        ({"offsets": ()}, "offsets"),
        ({"max_pending": 0}, "max_pending"),
        ({"stop_loss": 0.1}, "stop_loss"),
    ):
        with pytest.raises(InvalidParameter, match=f"{field}: "):
            reset(**options)
    with pytest.raises(InvalidParameter, match="symbol: must be a single one"):
        OrdersEnv(TWO, symbol=["AUSDT", "BUSDT"], **SHORT)


def test_random_orders_keep_the_ledger_whole() -> None:
    env = OrdersEnv(MARKET, **SHORT)
    env.action_space.seed(1)
    results = played(env, [env.action_space.sample() for _ in range(200)], seed=1)
    kinds = {order.type for order in env.session.orders}
    assert len(kinds) > 1
    assert all(np.isfinite(result[0]).all() for result in results)
    assert sum(len(result) == 2 for result in results) > 5


class TestRendering:
    def test_a_line_of_text(self) -> None:
        env = TargetEnv(MARKET, **SHORT, render_mode="ansi")
        env.reset(options={"row": 60})
        env.step(2)
        line = env.render()
        assert line.startswith("2025-01-01T01:02:00Z  BTCUSDT ")
        assert "100.0%" in line
        assert line.endswith(f"equity {env.session.portfolio().total_equity:.2f}")

    def test_an_image_has_prices_equity_and_fills(self) -> None:
        env = TargetEnv(MARKET, **SHORT, render_mode="rgb_array")
        env.reset(seed=1)
        start = env.render()
        for action in (2, 2, 2, 0, 0, 0, 0, 0):
            env.step(action)
        image = env.render()
        assert image.shape == start.shape == (360, 640, 3)
        assert image.dtype == np.uint8
        colors = {tuple(color) for color in image.reshape(-1, 3).tolist()}
        assert {(196, 202, 216), (88, 166, 255), (63, 185, 80), (248, 81, 73)} <= colors
        prices = (image == (196, 202, 216)).all(axis=2)
        columns = np.flatnonzero(prices.any(axis=0))
        assert columns.max() == 8 * 639 // 30, "it ends where the episode is"
        assert np.flatnonzero(prices.any(axis=1)).max() < 250

    def test_many_are_rendered_from_their_recordings(self) -> None:
        env = TargetVectorEnv(MARKET, 2, render_mode="ansi", record=True, **SHORT)
        assert env.reset(seed=1)
        env.step(np.array([0, 2]))
        lines = env.render()
        assert lines is not None
        assert ["100.0%" in line for line in lines] == [False, True]
        with pytest.raises(InvalidParameter, match="render_mode: needs record=True"):
            TargetVectorEnv(MARKET, 2, render_mode="ansi", **SHORT)
