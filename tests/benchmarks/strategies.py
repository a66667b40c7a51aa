"""Strategies over the year, against backtesting.py with the same data and rule."""

import warnings
from typing import Any

import pandas as pd
import talib

from candlestep.sandbox import Candles, Market, SessionConfig
from candlestep.sandbox.strategies import Run, compile_strategy, run
from tests.benchmarks.market import END, START, YEAR, synthetic_year
from tests.benchmarks.table import Row, seconds

FAST, SLOW = 60, 240
CARD = {
    "indicators": {
        "fast": {"kind": "sma", "period": FAST},
        "slow": {"kind": "sma", "period": SLOW},
    },
    "entries": [
        {
            "when": {"left": "fast", "op": "crosses_above", "right": "slow"},
            "size": {"equity_share": 0.5},
        }
    ],
    "exits": [{"when": {"left": "fast", "op": "crosses_below", "right": "slow"}}],
}
PROGRAM = f"""
indicators = {{"fast": {{"kind": "sma", "period": {FAST}}}, "slow": {{"kind": "sma", "period": {SLOW}}}}}

def on_candle(ctx):
    before = ctx.previous
    if ctx.fast > ctx.slow:
        if before.fast <= before.slow and ctx.position == 0:
            ctx.buy(equity_share=0.5%s)
    elif before.fast >= before.slow and ctx.fast < ctx.slow and ctx.position > 0:
        ctx.sell()
"""


def rows() -> list[Row]:
    """Return the rows of the speed table about strategies."""
    candles = synthetic_year("BTCUSDT")
    market = Market([candles])
    market.candles_of("BTCUSDT").prepare()
    of_card, of_program = run_year(CARD, market), run_year({"source": PROGRAM % ""}, market)
    assert of_card.session.orders == of_program.session.orders
    assert len(of_card.session.fills) > 1_000
    baseline, trades = backtesting_py(candles)
    assert abs(2 * trades - len(of_card.session.fills)) <= 2
    card = seconds(lambda: run_year(CARD, market).session.results())
    program = seconds(lambda: run_year({"source": PROGRAM % ""}, market))
    guarded = {"source": PROGRAM % ', stop_loss={"percent": 50}'}
    pending = seconds(lambda: run_year(guarded, market), repeat=3)
    return [
        Row(
            f"SMA cross {FAST}/{SLOW} as a card over a year of minutes, metrics included",
            f"{card * 1e3:.0f} ms",
            f"{baseline:.1f} s, backtesting.py",
            f"{baseline / card:.0f} ×",
            "≥ 20 ×",
            baseline >= 20 * card,
        ),
        Row(
            "the same as a program, called for every candle",
            f"{YEAR / program:,.0f} candles/s",
            f"{YEAR / baseline:,.0f} candles/s, backtesting.py",
            f"{baseline / program:.1f} ×",
            "≥ 100,000 candles/s",
            YEAR / program >= 100_000,
        ),
        Row(
            "the same with a stop pending while a position is held",
            f"{YEAR / pending:,.0f} candles/s",
            f"{YEAR / program:,.0f} candles/s without",
            f"{program / pending:.2f} ×",
            "",
            True,
        ),
    ]


def run_year(content: dict[str, Any], market: Market) -> Run:
    """Compile a strategy and run it over the year."""
    config = SessionConfig(start_time=START, end_time=END, starting_balance=1_000_000)
    return run(compile_strategy(content), config, market)


def backtesting_py(candles: Candles) -> tuple[float, int]:
    """Return the seconds that backtesting.py takes, statistics included, and its number of trades."""
    from backtesting import Backtest, Strategy

    class Cross(Strategy):  # type: ignore[misc]
        def init(self) -> None:
            self.fast = self.I(talib.SMA, self.data.Close, FAST)
            self.slow = self.I(talib.SMA, self.data.Close, SLOW)

        def next(self) -> None:
            if not self.position:
                if self.fast[-2] <= self.slow[-2] and self.fast[-1] > self.slow[-1]:
                    self.buy(size=0.5)
            elif self.fast[-2] >= self.slow[-2] and self.fast[-1] < self.slow[-1]:
                self.position.close()

    columns = {name.title(): getattr(candles, name) for name in ("open", "high", "low", "close")}
    data = pd.DataFrame(
        {**columns, "Volume": candles.volume}, index=pd.to_datetime(candles.open_time, unit="ms")
    )
    trades = 0

    def run_backtest() -> None:
        nonlocal trades
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            backtest = Backtest(
                data, Cross, cash=100_000_000, commission=0.001, trade_on_close=True
            )
            trades = int(backtest.run()["# Trades"])

    return seconds(run_backtest, repeat=1), trades


if __name__ == "__main__":
    from tests.benchmarks.table import print_table

    print_table(rows())
