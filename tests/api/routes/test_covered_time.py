"""Two doors to the same span of candles give the same figures, and say which span it was."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from candlestep.data.imports.importer import import_file
from candlestep.data.store.database import Store
from candlestep.sandbox import Candles, Market, Session, SessionConfig, format_time
from candlestep.sandbox.clock import DAY, HOUR
from candlestep.sandbox.strategies import compile_strategy, run
from tests.support.api_client import BACKTEST, Api, finished, has_ended, wait_for
from tests.support.backtests import BACKTESTS, create, execute, keep
from tests.support.candle_files import csv_text, rows, write
from tests.support.cards import crossing
from tests.support.real_candles import perpetual_hours
from tests.support.server_process import running

START = 1_704_067_200_000
"""2024-01-01T00:00:00Z, when the made candles begin."""
HOLE = (5 * DAY, 7 * DAY)
COSTS: dict[str, Any] = {"fee_model": "fixed_bps", "fee_bps": "5"}
CARD = crossing(3)


def made_candles() -> Candles:
    """Return twenty days of hours with a hole of two days, which rise and fall by halves of days."""
    hours = [row for row in rows(20 * 24, START, HOUR) if not HOLE[0] <= row[0] - START < HOLE[1]]
    closes = [100 + 20 * abs((number % 24) - 12) / 12 for number in range(len(hours) + 1)]
    pairs = list(pairwise(closes))
    return Candles(
        symbol="SOLUSDT",
        interval="1h",
        open_time=[row[0] for row in hours],
        open=[before for before, _ in pairs],
        high=[max(pair) for pair in pairs],
        low=[min(pair) for pair in pairs],
        close=[after for _, after in pairs],
        volume=[5000.0] * len(pairs),
    )


def real_candles() -> Candles:
    """Return the hours of XRPUSDT, which end in the middle of a session."""
    return perpetual_hours("XRPUSDT")


@pytest.fixture(scope="module", params=[made_candles, real_candles], ids=["made", "XRPUSDT"])
def candles(request: pytest.FixtureRequest) -> Candles:
    candles: Candles = request.param()
    return candles


@pytest.fixture(scope="module")
def api(candles: Candles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    home = tmp_path_factory.mktemp("doors")
    columns = [candles.open_time, candles.open, candles.high, candles.low, candles.close]
    lines = zip(*[column.tolist() for column in (*columns, candles.volume)], strict=True)
    store = Store.open(home)
    import_file(store, write(home / f"{candles.symbol}-1h.csv", csv_text(lines)))
    store.close()
    with running(home) as server, server.client() as client:
        yield Api(client)


def span_of(candles: Candles) -> tuple[int, int]:
    """Return a period that begins a day before the candles and ends a month after them."""
    first, last = int(candles.open_time[0]), int(candles.complete_time[-1])
    return first // DAY * DAY - DAY, -(-last // DAY) * DAY + 30 * DAY


def rests_on(candles: Candles) -> tuple[float, list[tuple[str, str, str, str]]]:
    """Return the share of hours with a candle, from the first to the last one, and each hole."""
    opens = candles.open_time.tolist()
    hours = (opens[-1] + HOUR - opens[0]) // HOUR
    holes = [
        ("GAP", candles.symbol, format_time(before + HOUR), format_time(after))
        for before, after in pairwise(opens)
        if after > before + HOUR
    ]
    return len(opens) / hours, holes


def said(answer: Any) -> tuple[float, list[tuple[str, str, str, str]]]:
    """Return the coverage of an answer's only pair, and its warnings without their messages."""
    names = ("code", "symbol", "from", "to")
    warnings = [tuple(warning[name] for name in names) for warning in answer["warnings"]]
    [share] = answer["coverage"].values()
    return share, warnings


def in_process(candles: Candles) -> Session:
    """Run the card over the whole period in process."""
    start, end = span_of(candles)
    config = SessionConfig(
        start_time=start, end_time=end, candle_interval="1h", allow_gaps=True, **COSTS
    )
    card = compile_strategy({**CARD, "timeframe": "1h", "symbols": [candles.symbol]})
    return run(card, config, Market([candles])).session


def test_a_job_and_a_session_over_the_same_period_agree(api: Api, candles: Candles) -> None:
    """The job is cut to the candles, the session goes on after them; both orders are the same."""
    start, end = map(format_time, span_of(candles))
    alike = in_process(candles)
    assert len(alike.fills) > 3
    body = {"pairs": [candles.symbol], "candle_interval": "1h", "allow_gaps": True, **COSTS}
    session_id = api.started(start, end, **body)
    clock, step = alike.config.clock, 0
    for order in alike.orders:
        placed_at = (order.created_at - clock.start) // clock.interval
        if placed_at > step:
            api.step(session_id, placed_at - step)
            step = placed_at
        fields = {"symbol": order.symbol, "side": order.side, "type": "market"}
        api.post(
            f"{BACKTEST}/{session_id}/trade/order", fields | {"quantity": str(order.quantity)}, 201
        )
    api.step(session_id, 10_000)
    metrics = api.read(session_id, "results")["metrics"]

    job = finished(
        api,
        api.post(
            f"{BACKTEST}/jobs",
            {
                "card": CARD,
                "symbols": [candles.symbol],
                "timeframe": "1h",
                "start": start,
                "end": end,
                "capital": "10000",
                **COSTS,
            },
        )["id"],
    )
    assert job["status"] == "done", job["error"]
    covered = [format_time(int(t)) for t in (candles.open_time[0], candles.complete_time[-1])]
    assert [metrics["covered_from"], metrics["covered_to"]] == covered
    assert [job["covered_from"], job["covered_to"]] == covered
    assert said(job) == rests_on(candles)
    [listed] = [item for item in api.get(f"{BACKTEST}/jobs")["data"] if item["id"] == job["id"]]
    assert [listed["covered_from"], listed["covered_to"]] == covered

    figures = job["result"]["metrics"]
    for theirs, ours, scale in (
        ("sharpe", "sharpe_ratio", 1),
        ("sortino", "sortino_ratio", 1),
        ("calmar", "calmar_ratio", 1),
        ("cagr", "cagr", 1),
        ("max_drawdown", "max_drawdown_pct", -100),
    ):
        if metrics[ours] is None:
            assert figures[theirs] is None, theirs
            continue
        rounding = abs(scale) * 1e-6
        assert float(figures[theirs]) * scale == pytest.approx(metrics[ours], abs=rounding), theirs
    own = alike.results().metrics
    assert (metrics["sharpe_ratio"], metrics["volatility"]) == (own.sharpe_ratio, own.volatility)
    assert metrics["candles_in_market"] == own.candles_in_market


def test_a_backtest_counts_the_same_candles_in_the_market(api: Api, candles: Candles) -> None:
    start, end = map(format_time, span_of(candles))
    strategy = keep(api, {**CARD, "timeframe": "1h"})
    config = {"symbol": candles.symbol, "start_date": start, "end_date": end, "timeframe": "1h"}
    terms = {"commission": 0.0005, "slippage": 0, "initial_capital": 10_000}
    backtest_id = create(api, strategy, config=config, **terms)
    pending = api.get(f"{BACKTESTS}/{backtest_id}")
    assert pending["covered_from"] is pending["covered_to"] is None, "it has not run"
    assert (pending["warnings"], pending["coverage"]) == ([], {})
    execute(api, backtest_id)
    done = api.get(f"{BACKTESTS}/{backtest_id}")
    covered = [format_time(int(t)) for t in (candles.open_time[0], candles.complete_time[-1])]
    assert [done["covered_from"], done["covered_to"]] == covered
    assert said(done) == rests_on(candles)

    first, last = span_of(candles)
    alike = run(
        compile_strategy({**CARD, "timeframe": "1h", "symbols": [candles.symbol]}),
        SessionConfig(
            start_time=first, end_time=last, candle_interval="1h", allow_gaps=True,
            fee_rate="0.0005", slippage={"model": "fixed_bps", "bps": 0},
        ),
        Market([candles]),
    ).session.results().metrics  # fmt: skip
    assert done["metrics"]["bars_in_market"] == alike.candles_in_market
    assert done["metrics"]["perf_sharpe_ratio"] == pytest.approx(alike.sharpe_ratio)


def test_a_preparation_and_a_run_say_what_they_are_cut_to(api: Api, candles: Candles) -> None:
    start, end = map(format_time, span_of(candles))
    covered = [format_time(int(t)) for t in (candles.open_time[0], candles.complete_time[-1])]
    prepare = f"{BACKTEST}/binance/kline/prepare"
    base = candles.symbol.removesuffix("USDT")
    body = {"instrument": f"{base}/USDT", "from": start, "to": end, "cadence": "1h"}
    prepared = api.post(prepare, body, 202)
    state = api.get(f"{prepare}/{prepared['jobId']}")
    assert [state["coveredFrom"], state["coveredTo"]] == covered
    assert said(state) == rests_on(candles)

    year = covered[0][:4]
    submitted = api.post(
        "/api/v2/backtest/runs",
        {
            "dataset_id": f"{candles.symbol.lower()}-1h-{year}",
            "strategy": CARD,
            "fees": 5,
            "slippage": 0,
            "funding": False,
        },
        202,
    )["data"]
    ran = wait_for(
        lambda: api.get(f"/api/v2/backtest/runs/{submitted['run_id']}")["data"], has_ended
    )
    assert [ran["covered_from"], ran["covered_to"]] == covered
    assert said(ran) == rests_on(candles)
