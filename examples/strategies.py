"""Write one strategy in three ways and run each over a synthetic month, in process.

    python examples/strategies.py

The template, the card and the program place the same orders, so the three lines differ only in the id
and in the time that the run took.
"""

import math
import time
from typing import Any

from candlestep.sandbox import Candles, Market, SessionConfig, closed_trades
from candlestep.sandbox.strategies import compile_strategy, run

MINUTE = 60_000
DAYS = 30

TEMPLATE = {
    "template": "tpl_ema_cross",
    "timeframe": "15m",
    "parameters": {"fast": 12, "slow": 48, "equity_share": 0.9, "stop_loss_pct": 3},
}

CARD = {
    "timeframe": "15m",
    "indicators": {
        "fast": {"kind": "ema", "period": 12},
        "slow": {"kind": "ema", "period": 48},
    },
    "entries": [
        {
            "when": {"left": "fast", "op": "crosses_above", "right": "slow"},
            "size": {"equity_share": 0.9},
            "stop_loss": {"percent": 3},
        }
    ],
    "exits": [{"when": {"left": "fast", "op": "crosses_below", "right": "slow"}}],
}

PROGRAM = {
    "timeframe": "15m",
    "source": """
indicators = {
    "fast": {"kind": "ema", "period": 12},
    "slow": {"kind": "ema", "period": 48},
}

def on_candle(ctx):
    before = ctx.previous
    if ctx.position == 0:
        if before.fast <= before.slow and ctx.fast > ctx.slow:
            ctx.buy(equity_share=0.9, stop_loss={"percent": 3})
    elif before.fast >= before.slow and ctx.fast < ctx.slow:
        ctx.sell()
""",
}


def main() -> None:
    candles = synthetic()
    config = SessionConfig(
        start_time=int(candles.open_time[0]),
        end_time=int(candles.complete_time[-1]),
        starting_balance="10000",
    )
    market = Market([candles])
    print("           id                                 trades   equity     drawdown")
    for name, content in (("template", TEMPLATE), ("card", CARD), ("program", PROGRAM)):
        report(name, content, config, market)


def report(name: str, content: dict[str, Any], config: SessionConfig, market: Market) -> None:
    strategy = compile_strategy(content)
    start = time.perf_counter()
    outcome = run(strategy, config, market)
    seconds = time.perf_counter() - start
    results = outcome.session.results()
    trades = closed_trades(outcome.session.fills)
    drawdown = f"{results.metrics.max_drawdown_pct:.2f} %"
    equity = f"{results.final_equity:.2f}"
    print(
        f"{name:10} {strategy.id}  {len(trades):7}  {equity:>9}  {drawdown:>10}"
        f"   {outcome.candles} candles in {seconds * 1e3:.0f} ms"
    )


def synthetic() -> Candles:
    """Return a month of minutes in waves, with prices to the cent."""
    count = DAYS * 24 * 60
    start = 1_735_689_600_000
    close = [
        round(60_000 + 3_000 * math.sin(k / 3_000) + 900 * math.sin(k / 431) + 90 * math.sin(k), 2)
        for k in range(count)
    ]
    opened = [close[0], *close[:-1]]
    both = list(zip(opened, close, strict=True))
    return Candles(
        symbol="BTCUSDT",
        interval="1m",
        open_time=[start + k * MINUTE for k in range(count)],
        open=opened,
        high=[max(pair) + 5 for pair in both],
        low=[min(pair) - 5 for pair in both],
        close=close,
        volume=[50.0] * count,
    )


if __name__ == "__main__":
    main()
