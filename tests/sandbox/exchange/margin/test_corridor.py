"""Several cross positions: the search finds the first liquidation that a scan of all candles finds."""

import numpy as np
import pytest
from numpy.typing import NDArray

from candlestep.sandbox import Candles, Session
from candlestep.sandbox.clock import MINUTE
from tests.support.perpetual_markets import perp_session

CANDLES = 4_000
MMR = 0.004
Floats = NDArray[np.float64]


def walk(symbol: str, random: np.random.Generator) -> Candles:
    close = (100 * np.exp(np.cumsum(random.normal(0, 0.001, CANDLES)))).round(3)
    opens = np.concatenate([close[:1], close[:-1]])
    return Candles(
        symbol=symbol,
        interval="1m",
        open_time=np.arange(CANDLES) * MINUTE,
        open=opens,
        high=(np.maximum(opens, close) * (1 + random.exponential(0.0005, CANDLES))).round(3),
        low=(np.minimum(opens, close) * (1 - random.exponential(0.0005, CANDLES))).round(3),
        close=close,
        volume=np.full(CANDLES, 1e6),
    )


def first_breach(candles: list[Candles], quantities: list[int], wallet: float) -> int | None:
    """Return the time of the first candle at whose worst price F is not above 0, in a full scan."""

    def left(series: Candles, quantity: int, prices: Floats) -> Floats:
        entry = float(series.close[0])
        left: Floats = quantity * (prices - entry) - abs(quantity) * prices * MMR
        return left

    pairs = list(zip(candles, quantities, strict=True))
    closes = [left(series, quantity, series.close) for series, quantity in pairs]
    lowest = np.full(CANDLES - 1, np.inf)
    for place, (series, quantity) in enumerate(pairs):
        worst = left(series, quantity, series.low if quantity > 0 else series.high)
        others = sum((closes[other][1:] for other in range(place)), np.zeros(CANDLES - 1))
        for other in range(place + 1, len(pairs)):
            others = others + closes[other][:-1]
        lowest = np.minimum(lowest, wallet + others + worst[1:])
    breaches = np.flatnonzero(lowest <= 0)
    return candles[0].complete_time_of(int(breaches[0]) + 1) if len(breaches) else None


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("steps", [CANDLES, 700])
def test_the_first_liquidation_is_that_of_a_full_scan(seed: int, steps: int) -> None:
    random = np.random.default_rng(seed)
    count = 2 + seed % 4
    candles = [walk(f"{name}USDT-PERP", random) for name in "ABCDE"[:count]]
    quantities = [int(side) * 10 for side in random.choice([-1, 1], count)]
    balance = float(random.integers(15, 90) * count)
    session = perp_session(
        *candles,
        leverage=125,
        starting_balance=balance,
        fee_rate=0,
        margin_tiers=[{"floor": 0, "mmr": MMR, "max_leverage": 125}],
    )
    for series, quantity in zip(candles, quantities, strict=True):
        side = "buy" if quantity > 0 else "sell"
        session.place_order(symbol=series.symbol, side=side, quantity=abs(quantity))
    assert first_liquidation(session, steps) == first_breach(candles, quantities, balance)


def test_accounts_of_the_scan_live_and_die() -> None:
    """What is compared above is worth comparing."""
    outcomes = []
    for seed in range(24):
        random = np.random.default_rng(seed)
        count = 2 + seed % 4
        candles = [walk(f"{name}USDT-PERP", random) for name in "ABCDE"[:count]]
        quantities = [int(side) * 10 for side in random.choice([-1, 1], count)]
        balance = float(random.integers(15, 90) * count)
        outcomes.append(first_breach(candles, quantities, balance) is not None)
    assert 6 <= sum(outcomes) <= 18


def first_liquidation(session: Session, steps: int) -> int | None:
    while session.status == "running" and not len(session.liquidations):
        session.step(steps)
    return session.liquidations[0].time if len(session.liquidations) else None
