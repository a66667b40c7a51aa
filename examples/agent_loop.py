"""Step a session over HTTP with an agent that trades SMA momentum with stop-losses, in plain httpx.

    candlestep data sample
    candlestep serve
    python examples/agent_loop.py

Each step returns the prices at the end of the hour, and the agent needs little more: it buys when the
fast average of the last closes crosses above the slow one, guards the position with a stop-loss, and
sells when the averages cross back. The server checks the stop on every candle, even on those that the
agent skips.
"""

import argparse
import sys
from collections import deque
from datetime import datetime, timedelta
from typing import Any

import httpx

FAST, SLOW = 12, 48
"""Number of closes in each average."""
STOP = 0.03
"""Distance of the stop-loss below the price, as a fraction of the price."""
COMMIT = 0.9
"""Fraction of the equity that is invested when every pair is held."""


def main() -> None:
    options = arguments()
    headers = {"X-API-Key": options.api_key} if options.api_key else {}
    with httpx.Client(base_url=f"{options.url}/api/v1", headers=headers) as http:
        session_id = create(http, options)
        start = call(http, "POST", f"/backtest/{session_id}/start")
        closes = {
            symbol: deque([float(price)], SLOW + 1) for symbol, price in start["prices"].items()
        }
        print(f"Session {session_id} over {', '.join(closes)}")
        while True:
            step = call(
                http, "POST", f"/backtest/{session_id}/step/batch", {"steps": options.steps}
            )
            show_progress(step)
            if step["is_complete"]:
                break
            for symbol, price in step["prices"].items():
                closes.setdefault(symbol, deque(maxlen=SLOW + 1)).append(float(price))
            trade(http, session_id, step["portfolio"], closes)
        report(call(http, "GET", f"/backtest/{session_id}/results"))
    print_links(options.url, session_id)


def create(http: httpx.Client, options: argparse.Namespace) -> str:
    """Create a session over the period of the options, by default over all candles."""
    data = call(http, "GET", "/market/data-range")
    if data["earliest"] is None:
        sys.exit("The server has no candles: `candlestep data sample` loads a sample market.")
    session: dict[str, Any] = {
        "start_time": options.start or data["earliest"],
        "end_time": options.end or one_second_after(data["latest"]),
        "starting_balance": 10000,
        "candle_interval": "1m",
        "strategy_label": f"sma_momentum_{FAST}_{SLOW}",
    }
    if options.pairs:
        session["pairs"] = options.pairs
    session_id: str = call(http, "POST", "/backtest/create", session)["session_id"]
    return session_id


def trade(
    http: httpx.Client,
    session_id: str,
    portfolio: dict[str, Any],
    closes: dict[str, deque[float]],
) -> None:
    """Buy the symbols that begin to rise, and sell those that no longer do."""
    held = {position["symbol"]: position["quantity"] for position in portfolio["positions"]}
    cash = float(portfolio["available_cash"])
    orders = f"/backtest/{session_id}/trade/order"
    for symbol, history in closes.items():
        rises, rose = is_rising(history, 0), is_rising(history, 1)
        if rises and not rose and symbol not in held:
            share = COMMIT * float(portfolio["total_equity"]) / len(closes)
            quantity = f"{min(share, COMMIT * cash) / history[-1]:.8f}"
            buy = {"symbol": symbol, "side": "buy", "type": "market", "quantity": quantity}
            entry = call(http, "POST", orders, buy)
            cash -= float(entry["executed_qty"]) * float(entry["executed_price"])
            stop = {
                "symbol": symbol,
                "side": "sell",
                "type": "stop_loss",
                "quantity": entry["executed_qty"],
                "trigger_price": f"{history[-1] * (1 - STOP):.8f}",
            }
            call(http, "POST", orders, stop)
        elif not rises and symbol in held:
            # The exchange cancels the stop-loss when the position is closed.
            sell = {"symbol": symbol, "side": "sell", "type": "market", "quantity": held[symbol]}
            call(http, "POST", orders, sell)


def is_rising(history: deque[float], ago: int) -> bool:
    """Return whether the fast average was above the slow one, ``ago`` closes ago."""
    closes = list(history)[: len(history) - ago][-SLOW:]
    return len(closes) == SLOW and sum(closes[-FAST:]) / FAST > sum(closes) / SLOW


def call(http: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Return the server's answer; exit with its message if it refuses the request."""
    try:
        response = http.request(method, path, json=body)
    except httpx.TransportError as error:
        sys.exit(f"No server answers at {http.base_url} ({error}): `candlestep serve` starts one.")
    if response.is_error:
        sys.exit(f"{method} {path}: {response.status_code} {response.json()['message']}")
    return response.json()


def show_progress(step: dict[str, Any]) -> None:
    """Show the session's progress as a bar, on a terminal."""
    if sys.stdout.isatty():
        done = float(step["progress_pct"])
        bar = ("#" * round(done / 4)).ljust(25, "-")
        equity = float(step["portfolio"]["total_equity"])
        end = "\n" if step["is_complete"] else ""
        print(f"\r[{bar}] {done:6.2f}%  equity {equity:,.2f} ", end=end, flush=True)


def report(results: dict[str, Any]) -> None:
    config, summary, metrics = results["config"], results["summary"], results["metrics"]
    rows = [
        ("from", config["start_time"]),
        ("to", config["end_time"]),
        ("starting balance", config["starting_balance"]),
        ("final equity", summary["final_equity"]),
        ("ROI", percent(summary["roi_pct"])),
        ("Sharpe ratio", figure(metrics["sharpe_ratio"])),
        ("Sortino ratio", figure(metrics["sortino_ratio"])),
        ("max drawdown", percent(metrics["max_drawdown_pct"])),
        ("win rate", percent(metrics["win_rate"])),
        ("trades", summary["total_trades"]),
        ("fees", summary["total_fees"]),
    ]
    print()
    for name, value in rows:
        print(f"{name:18}{value!s:>22}")
    print(f"\n{'pair':12}{'trades':>8}{'win rate':>10}{'net PnL':>20}")
    for pair in results["by_pair"]:
        print(
            f"{pair['symbol']:12}{pair['trades']:>8}{percent(pair['win_rate']):>10}"
            f"{pair['net_pnl']:>20}"
        )


def print_links(url: str, session_id: str) -> None:
    session = f"{url}/api/v1/backtest/{session_id}"
    print("\nWhere to look next:")
    print(f"  {session}/results")
    print(f"  {session}/results/equity-curve")
    print(f"  {session}/results/trades")
    print(f"  {url}/docs")


def figure(value: float | None) -> str:
    """Format a ratio; the server sends null for one that is undefined."""
    return "undefined" if value is None else f"{value:.2f}"


def percent(value: float | str | None) -> str:
    return "undefined" if value is None else f"{float(value):.2f} %"


def one_second_after(time: str) -> str:
    """Return the time when the last candle is complete: ``data-range`` gives the second before."""
    return (datetime.fromisoformat(time) + timedelta(seconds=1)).isoformat()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="An agent that trades SMA momentum.")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="URL of the server")
    parser.add_argument("--api-key", help="needed if the server has keys")
    parser.add_argument(
        "--pairs", nargs="+", help="pairs to trade, such as BTCUSDT ETHUSDT (default: all)"
    )
    parser.add_argument("--start", help="start, such as 2025-01-01 (default: the first candle)")
    parser.add_argument("--end", help="end (default: the end of the last candle)")
    parser.add_argument("--steps", type=int, default=60, help="minutes between two decisions")
    return parser.parse_args()


if __name__ == "__main__":
    main()
