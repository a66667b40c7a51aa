"""The same orders through backtesting.py, on real candles with the same costs: equal equity.

Where the two rules differ, the plans here keep to what they share:

- A market order fills at the price of now, the last close: ``trade_on_close=True`` there.
- With ``trade_on_close`` its stops ignore a gap at the open, so stops and limits are compared
  with ``trade_on_close=False``, without market orders.
- It trades whole units and keeps first-in-first-out lots; equity does not depend on lots.
- It works in floats and does not round fees: equity agrees to half of 1e-8 a fill.
- It fills a stop and a limit of one candle in the sequence placed, not along the candle's path:
  there is one exit order at a time.

Shorts are compared at 1x, on the same candles as a perpetual. What it does not have, the plans do
without: funding, a mark price, and liquidation, which no position of theirs comes near. A flip is
one fill here, and there a trade that is closed and one that is opened.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from backtesting import Backtest, Strategy

from candlestep.sandbox import Candles, Market, Session, SessionConfig
from tests.support.real_candles import eurusd, minutes

FEE = 0.0005
EVERY = 7
UNITS = 20


def cash_for(candles: Candles) -> int:
    """Return enough cash for the plans, but not so much that their PnL disappears in it."""
    return round(200 * float(candles.close[0]))


class Plan:
    """Return the order at a candle, given the holding: the same for both engines."""

    def orders(self, candle: int, close: float, held: int) -> list[dict[str, Any]]:
        raise NotImplementedError

    trade_on_close: bool
    is_perpetual = False


class Markets(Plan):
    trade_on_close = True

    def orders(self, candle: int, close: float, held: int) -> list[dict[str, Any]]:
        if candle % EVERY:
            return []
        if candle // EVERY % 3 < 2:
            return [{"side": "buy", "units": UNITS + candle % 5}]
        return [{"side": "sell", "units": held - candle % 3}] if held > 3 else []


class LimitsAndStops(Plan):
    trade_on_close = False

    def orders(self, candle: int, close: float, held: int) -> list[dict[str, Any]]:
        if candle % EVERY:
            return []
        if not held:
            if candle % 2:
                return [{"side": "buy", "units": UNITS, "limit": round(close * 0.9995, 5)}]
            return [{"side": "buy", "units": UNITS, "stop": round(close * 1.0005, 5)}]
        if candle % 2:
            return [{"side": "sell", "units": held, "limit": round(close * 1.001, 5)}]
        return [{"side": "sell", "units": held, "stop": round(close * 0.999, 5)}]


class Shorts(Plan):
    """Do the opposite of another plan: sell where it buys, at prices as far on the other side."""

    is_perpetual = True

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.trade_on_close = plan.trade_on_close

    def orders(self, candle: int, close: float, held: int) -> list[dict[str, Any]]:
        return [
            {
                name: value if name == "units" else round(2 * close - value, 5)
                for name, value in order.items()
                if name != "side"
            }
            | {"side": "sell" if order["side"] == "buy" else "buy"}
            for order in self.plan.orders(candle, close, -held)
        ]


class Flips(Plan):
    """Be long and short in turn, by one order each."""

    is_perpetual = True
    trade_on_close = True

    def orders(self, candle: int, close: float, held: int) -> list[dict[str, Any]]:
        if candle % EVERY:
            return []
        return [{"side": "buy" if held <= 0 else "sell", "units": abs(held) + UNITS + candle % 5}]


def theirs(candles: Candles, plan: Plan) -> pd.Series:
    class Planned(Strategy):  # type: ignore[misc]
        def init(self) -> None:
            pass

        def next(self) -> None:
            candle = len(self.data) - 1
            wanted = plan.orders(candle, float(self.data.Close[-1]), self.position.size)
            if candle % EVERY == 0:
                for order in self.orders:
                    order.cancel()
            for order in wanted:
                place = self.buy if order["side"] == "buy" else self.sell
                place(size=order["units"], limit=order.get("limit"), stop=order.get("stop"))

    frame = pd.DataFrame(
        {
            "Open": candles.open,
            "High": candles.high,
            "Low": candles.low,
            "Close": candles.close,
            "Volume": candles.volume,
        },
        index=pd.to_datetime(candles.open_time, unit="ms"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = Backtest(
            frame,
            Planned,
            cash=cash_for(candles),
            commission=FEE,
            trade_on_close=plan.trade_on_close,
        )
        return engine.run()._equity_curve.Equity


def ours(candles: Candles, plan: Plan) -> list[float]:
    perpetual: dict[str, Any] = {}
    if plan.is_perpetual:
        candles = Candles.restore(candles.arrays._replace(symbol=f"{candles.symbol}-PERP"))
        perpetual = {"market_type": "perp", "funding": False}
    symbol = candles.symbol
    session = Session(
        SessionConfig(
            start_time=int(candles.complete_time[1]),
            end_time=int(candles.complete_time[-1]),
            starting_balance=cash_for(candles),
            candle_interval=candles.intervals[0] // 1000,
            fee_rate=FEE,
            slippage={"model": "none"},
            **perpetual,
        ),
        Market([candles]),
    )
    equity = [float(cash_for(candles))] * 2
    for candle in range(1, len(candles) - 1):
        positions = session.positions()
        held = int(positions[0].quantity) if positions else 0
        if candle % EVERY == 0:
            for order in session.open_orders():
                session.cancel_order(order.id)
        for wanted in plan.orders(candle, float(candles.close[candle]), held):
            place(session, symbol, wanted)
        hours = (
            int(candles.complete_time[candle + 1] - session.time) // session.config.clock.interval
        )
        equity.append(float(session.step(hours).portfolio.total_equity))
    return equity


def place(session: Session, symbol: str, wanted: dict[str, Any]) -> None:
    order = {"symbol": symbol, "side": wanted["side"], "quantity": wanted["units"]}
    if session.config.market_type == "perp":
        order["reduce_only"] = False  # A stop is an entry too.
    if "limit" in wanted:
        session.place_order(**order, type="limit", price=wanted["limit"])
    elif "stop" in wanted:
        session.place_order(**order, type="stop_loss", trigger_price=wanted["stop"])
    else:
        session.place_order(**order, type="market")


@pytest.mark.parametrize("plan", [Markets(), LimitsAndStops()], ids=["markets", "limits, stops"])
@pytest.mark.parametrize("history", ["EURUSD", "BTCUSDT"])
def test_equity_agrees_at_every_candle(history: str, plan: Plan) -> None:
    candles = eurusd() if history == "EURUSD" else first(minutes("BTCUSDT", "2021-03"), 20_000)
    assert_equity_agrees(candles, plan)


@pytest.mark.parametrize(
    "plan",
    [Shorts(Markets()), Shorts(LimitsAndStops()), Flips()],
    ids=["markets", "limits, stops", "flips"],
)
def test_equity_of_shorts_agrees_at_every_candle(plan: Plan) -> None:
    assert_equity_agrees(eurusd(), plan)


def assert_equity_agrees(candles: Candles, plan: Plan) -> None:
    expected = theirs(candles, plan).to_numpy()
    actual = np.array(ours(candles, plan))
    assert len(np.unique(expected)) > 1000, "the plan trades"
    rounding = 0.5e-8 * len(candles) / EVERY
    assert actual == pytest.approx(expected, rel=1e-12, abs=rounding)


def first(candles: Candles, count: int) -> Candles:
    columns = ("open_time", "open", "high", "low", "close", "volume")
    return Candles(
        symbol=candles.symbol,
        interval=candles.intervals[0] // 1000,
        **{name: getattr(candles, name)[:count] for name in columns},
    )
