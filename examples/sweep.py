"""A strategy without stepping: submitted as a job, swept over its parameters, the best compared.

    candlestep data sample
    candlestep serve
    python examples/sweep.py --trades trades.parquet

The runs are done by the server's workers; this program asks how far they are.
"""

import argparse
import itertools
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

TEMPLATE = "tpl_sma_cross"
FAST, SLOW = (5, 10, 20), (50, 100, 150)
COMPARED = 3
SHOWN = ("total_return", "perf_sharpe_ratio", "risk_max_drawdown", "trade_win_rate")


def main() -> None:
    options = arguments()
    headers = {"X-API-Key": options.api_key} if options.api_key else {}
    with httpx.Client(base_url=f"{options.url}/api/v1", headers=headers, timeout=60) as http:
        show_templates(call(http, "GET", "/strategy-templates")["data"])
        start, end = span(http, options)
        print(f"\n{options.symbol} by the hour, from {start} to {end}\n")
        job = submit_job(http, options.symbol, start, end)
        print_table(job["result"]["metrics"].items())
        ranked = sweep(http, options.symbol, start, end)
        compare(http, ranked)
        download_trades(http, ranked[0]["backtest_id"], options.trades)


def show_templates(templates: list[dict[str, Any]]) -> None:
    """Each with its parameters and their defaults."""
    for template in templates:
        properties = template["params"]["properties"]
        parameters = (
            f"{name} {default}"
            for name, each in properties.items()
            if (default := each.get("default", "…")) is not None
        )
        print(f"{template['id']:18}{', '.join(parameters)}")


def span(http: httpx.Client, options: argparse.Namespace) -> tuple[str, str]:
    """The time that was asked for, or else the last month of the data."""
    data = call(http, "GET", "/market/data-range")
    if data["latest"] is None:
        sys.exit("The server has no candles: `candlestep data sample` loads a sample market.")
    end = options.end or data["latest"]
    month_before = datetime.fromisoformat(end) - timedelta(days=30)
    return options.start or f"{month_before:%Y-%m-%dT%H:%M:%SZ}", end


def submit_job(http: httpx.Client, symbol: str, start: str, end: str) -> dict[str, Any]:
    """One run of the template with its defaults, when it has ended."""
    body = {
        "template_id": TEMPLATE,
        "params": {},
        "symbols": [symbol],
        "timeframe": "1h",
        "start": start,
        "end": end,
        "capital": "10000",
    }
    job = call(http, "POST", "/backtest/jobs", body)
    while job["status"] in ("queued", "running"):
        show_progress("job", job["progress"])
        time.sleep(0.1)
        job = call(http, "GET", f"/backtest/jobs/{job['id']}")
    show_progress("job", 1)
    if job["error"]:
        sys.exit(job["error"]["message"])
    return dict(job)


def sweep(http: httpx.Client, symbol: str, start: str, end: str) -> list[dict[str, Any]]:
    """Every pair of averages, run as one job; the best first."""
    kept = call(
        http, "POST", "/strategies", {"name": "cross", "pipeline_config": {"template": TEMPLATE}}
    )
    config = {"symbol": symbol, "timeframe": "1h", "start_date": start, "end_date": end}
    grid = [{"fast": fast, "slow": slow} for fast, slow in itertools.product(FAST, SLOW)]
    body = {"strategy_id": kept["id"], "base_config": config, "param_grid": grid}
    task_id = call(http, "POST", "/backtests/sweep", body)["task_id"]
    task = call(http, "GET", f"/tasks/{task_id}")
    while task["status"] not in ("SUCCESS", "FAILURE"):
        show_progress("sweep", task["progress"])
        time.sleep(0.1)
        task = call(http, "GET", f"/tasks/{task_id}")
    show_progress("sweep", 1)
    if task["error"]:
        sys.exit(task["error"])
    ranked: list[dict[str, Any]] = task["result"]["leaderboard"]
    print(f"{'rank':>4}  {'averages':12}{ranked[0]['rank_metric']:>20}")
    for run in ranked:
        averages = f"{run['overrides']['fast']}/{run['overrides']['slow']}"
        print(f"{run['rank']:>4}  {averages:12}{figure(run['score']):>20}")
    return ranked


def compare(http: httpx.Client, ranked: list[dict[str, Any]]) -> None:
    """The best runs side by side; the best of each metric is marked."""
    ids = [run["backtest_id"] for run in ranked[:COMPARED]]
    compared = call(http, "POST", "/backtests/compare", {"backtest_ids": ids})
    print()
    for name in SHOWN:
        metric = compared["metric_diff"][name]
        values = (
            figure(metric["values"][each]) + ("*" if each == metric["best_id"] else " ")
            for each in ids
        )
        print(f"{name:20}{''.join(f'{value:>12}' for value in values)}")


def download_trades(http: httpx.Client, backtest_id: str, path: Path) -> None:
    answer = http.get(f"/backtests/{backtest_id}/trades/parquet")
    answer.raise_for_status()
    path.write_bytes(answer.content)
    print(f"\nThe trades of the best are in {path}.")


def call(http: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The server's answer; what it refuses, it explains."""
    try:
        answer = http.request(method, path, json=body)
    except httpx.TransportError as error:
        sys.exit(f"No server answers at {http.base_url} ({error}): `candlestep serve` starts one.")
    if answer.is_error:
        sys.exit(f"{method} {path}: {answer.status_code} {answer.json()['message']}")
    return answer.json()


def show_progress(what: str, done: float) -> None:
    """A bar, on a terminal."""
    if sys.stdout.isatty():
        bar = ("#" * round(done * 25)).ljust(25, "-")
        print(f"\r[{bar}] {what} {done:4.0%} ", end="\n" if done == 1 else "", flush=True)


def print_table(rows: Any) -> None:
    for name, value in rows:
        print(f"{name:28}{'undefined' if value is None else value!s:>14}")
    print()


def figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A job, a sweep, and the best of it compared.")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the server")
    parser.add_argument("--api-key", help="not needed where no key has been made")
    parser.add_argument("--symbol", default="BTCUSDT")
    parser.add_argument("--start", help="such as 2025-01-01 (default: 30 days before the end)")
    parser.add_argument("--end", help="(default: the end of the data)")
    parser.add_argument("--trades", type=Path, default="trades.parquet", help="where they go")
    return parser.parse_args()


if __name__ == "__main__":
    main()
