"""Step a session over real candles in process, with all four order types.

    python examples/in_process.py BTCUSDT-1m-2024-10.csv.gz

The file has the header ``timestamp,open,high,low,close,volume``; the timestamp is the open time in
UTC. Without a file, the market is synthetic. At the end the program prints every fill, and the equity
that the fills add up to.
"""

import csv
import gzip
import math
import sys
from decimal import Decimal
from typing import Any

from candlestep.sandbox import (
    Candles,
    Market,
    Order,
    Session,
    SessionConfig,
    format_time,
    parse_time,
)

SYMBOL = "BTCUSDT"
HOUR = 60


def main() -> None:
    candles = read(sys.argv[1]) if len(sys.argv) > 1 else synthetic()
    start = int(candles.complete_time[0])
    session = Session(
        SessionConfig(
            start_time=start,
            end_time=int(candles.complete_time[-1]),
            starting_balance="10000",
            candle_interval="1m",
        ),
        Market([candles]),
    )
    print(f"{candles}\n")
    while session.status == "running":
        if not session.positions() and not session.open_orders():
            enter(session)
        step = session.step(4 * HOUR)
        for order in step.orders_filled:
            if order.side == "buy" and not step.is_complete:
                guard(session, order)
    report(session)


def enter(session: Session) -> None:
    """Buy at the market price, and the same quantity again 1 % below or 1 % above it."""
    price = session.price(SYMBOL)
    quantity = session.portfolio().available_cash / price * Decimal("0.3")
    buy: dict[str, Any] = {"symbol": SYMBOL, "side": "buy", "quantity": quantity}
    guard(session, session.place_order(**buy, type="market"))
    session.place_order(
        **buy, type="limit", price=price * Decimal("0.99"), oco_group=f"more {session.time}"
    )
    session.place_order(
        **buy,
        type="stop_loss",
        trigger_price=price * Decimal("1.01"),
        oco_group=f"more {session.time}",
    )


def guard(session: Session, entry: Order) -> None:
    """Sell the quantity of an entry at a loss of 2 % or a gain of 3 %, whichever comes first."""
    price = session.price(SYMBOL)
    sell: dict[str, Any] = {"symbol": SYMBOL, "side": "sell", "quantity": entry.quantity}
    group = f"guards of {entry.id}"
    session.place_order(
        **sell, type="stop_loss", trigger_price=price * Decimal("0.98"), oco_group=group
    )
    session.place_order(
        **sell, type="take_profit", trigger_price=price * Decimal("1.03"), oco_group=group
    )


def report(session: Session) -> None:
    """Print the fills, add them up, and compare the sum with the equity of the session."""
    cash, held = Decimal(10_000), Decimal(0)
    print(
        f"{'time':20} {'side':4} {'type':11} {'quantity':>12} {'price':>12} {'fee':>10} {'PnL':>10}"
    )
    for fill in session.fills:
        if fill.side == "buy":
            cash -= fill.quote_amount + fill.fee
            held += fill.quantity
        else:
            cash += fill.quote_amount - fill.fee
            held -= fill.quantity
        pnl = "" if fill.realized_pnl is None else f"{fill.realized_pnl:.2f}"
        print(
            f"{format_time(fill.time):20} {fill.side:4} {fill.type:11} {fill.quantity:12}"
            f" {fill.price:12.2f} {fill.fee:10.4f} {pnl:>10}"
        )
    price = session.price(SYMBOL)
    results = session.results()
    metrics = results.metrics
    print(f"\n{'cash after all fills':28} {cash:16.8f}")
    print(f"{f'{held} {SYMBOL} at {price}':28} {held * price:16.8f}")
    print(f"{'adds up to':28} {cash + held * price:16.8f}")
    print(f"{'equity of the session':28} {results.final_equity:16.8f}\n")
    print(f"{'return':28} {results.roi_pct:10.2f} %")
    print(f"{'largest drawdown':28} {metrics.max_drawdown_pct:10.2f} %")
    print(f"{'win rate':28} {metrics.win_rate or 0:10.2f} %")
    sharpe = "undefined" if metrics.sharpe_ratio is None else f"{metrics.sharpe_ratio:.2f}"
    print(f"{'Sharpe ratio':28} {sharpe:>10}")


def read(path: str) -> Candles:
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt") as file:
        rows = list(csv.DictReader(file))
    return Candles(
        symbol=SYMBOL,
        interval="1m",
        open_time=[parse_time(row["timestamp"]) for row in rows],
        open=[float(row["open"]) for row in rows],
        high=[float(row["high"]) for row in rows],
        low=[float(row["low"]) for row in rows],
        close=[float(row["close"]) for row in rows],
        volume=[float(row["volume"]) for row in rows],
    )


def synthetic() -> Candles:
    """Return two weeks of minutes in waves: not a market, but its price moves."""
    minutes = range(14 * 24 * 60)
    close = [
        round(60_000 + 2_000 * math.sin(minute / 700) + 300 * math.sin(minute / 13), 2)
        for minute in minutes
    ]
    opened = [close[0], *close[:-1]]
    return Candles(
        symbol=SYMBOL,
        interval="1m",
        open_time=[parse_time("2025-01-01") + minute * 60_000 for minute in minutes],
        open=opened,
        high=[round(max(pair) + 5, 2) for pair in zip(opened, close, strict=True)],
        low=[round(min(pair) - 5, 2) for pair in zip(opened, close, strict=True)],
        close=close,
        volume=[10.0] * len(close),
    )


if __name__ == "__main__":
    main()
