"""Run a strategy as a job, sweep its parameters, and compare the best runs, all on a server.

    candlestep data sample
    candlestep serve
    python examples/sweep.py --trades trades.parquet

The server's workers do the runs, while this program polls their progress.
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
        start, end = period(http, options)
        print(f"\n{options.symbol} by the hour, from {start} to {end}\n")
        job = submit_job(http, options.symbol, start, end)
        print_table(job["result"]["metrics"].items())
        ranked = sweep(http, options.symbol, start, end)
        compare(http, ranked)
        download_trades(http, ranked[0]["backtest_id"], options.trades)


def show_templates(templates: list[dict[str, Any]]) -> None:
    """Print each template with its parameters and their defaults."""
    for template in templates:
        properties = template["params"]["properties"]
        parameters = (
            f"{name} {default}"
            for name, schema in properties.items()
            if (default := schema.get("default", "…")) is not None
        )
        print(f"{template['id']:18}{', '.join(parameters)}")


def period(http: httpx.Client, options: argparse.Namespace) -> tuple[str, str]:
    """Return the period of the options, by default the last month of the data."""
    data = call(http, "GET", "/market/data-range")
    if data["latest"] is None:
        sys.exit("The server has no candles: `candlestep data sample` loads a sample market.")
    end = options.end or data["latest"]
    month_before = datetime.fromisoformat(end) - timedelta(days=30)
    return options.start or f"{month_before:%Y-%m-%dT%H:%M:%SZ}", end


def submit_job(http: httpx.Client, symbol: str, start: str, end: str) -> dict[str, Any]:
    """Run the template with its defaults and return the job when it has ended."""
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
    """Run every pair of averages as one job and return the runs, best first."""
    content = {"name": "cross", "pipeline_config": {"template": TEMPLATE}}
    strategy = call(http, "POST", "/strategies", content)
    config = {"symbol": symbol, "timeframe": "1h", "start_date": start, "end_date": end}
    grid = [{"fast": fast, "slow": slow} for fast, slow in itertools.product(FAST, SLOW)]
    body = {"strategy_id": strategy["id"], "base_config": config, "param_grid": grid}
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
    """Print the best runs side by side, with the best value of each metric marked."""
    ids = [run["backtest_id"] for run in ranked[:COMPARED]]
    comparison = call(http, "POST", "/backtests/compare", {"backtest_ids": ids})
    print()
    for name in SHOWN:
        metric = comparison["metric_diff"][name]
        values = (
            figure(metric["values"][run_id]) + ("*" if run_id == metric["best_id"] else " ")
            for run_id in ids
        )
        print(f"{name:20}{''.join(f'{value:>12}' for value in values)}")


def download_trades(http: httpx.Client, backtest_id: str, path: Path) -> None:
    response = http.get(f"/backtests/{backtest_id}/trades/parquet")
    response.raise_for_status()
    path.write_bytes(response.content)
    print(f"\nThe trades of the best run are in {path}.")


def call(http: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Return the server's answer; exit with its message if it refuses the request."""
    try:
        response = http.request(method, path, json=body)
    except httpx.TransportError as error:
        sys.exit(f"No server answers at {http.base_url} ({error}): `candlestep serve` starts one.")
    if response.is_error:
        sys.exit(f"{method} {path}: {response.status_code} {response.json()['message']}")
    return response.json()


def show_progress(task: str, done: float) -> None:
    """Show progress as a bar, on a terminal."""
    if sys.stdout.isatty():
        bar = ("#" * round(done * 25)).ljust(25, "-")
        print(f"\r[{bar}] {task} {done:4.0%} ", end="\n" if done == 1 else "", flush=True)


def print_table(rows: Any) -> None:
    for name, value in rows:
        print(f"{name:28}{'undefined' if value is None else value!s:>14}")
    print()


def figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Run a job and a sweep, and compare the best runs."
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="URL of the server")
    parser.add_argument("--api-key", help="needed if the server has keys")
    parser.add_argument("--symbol", default="BTCUSDT")
    parser.add_argument(
        "--start", help="start, such as 2025-01-01 (default: 30 days before the end)"
    )
    parser.add_argument("--end", help="end (default: the end of the data)")
    parser.add_argument(
        "--trades", type=Path, default="trades.parquet", help="file for the trades of the best run"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
