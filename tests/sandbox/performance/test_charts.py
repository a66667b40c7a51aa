"""Charts: what they show adds up to what a session did, and nothing later than its clock."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.sandbox import (
    Candles,
    InvalidParameter,
    InvalidState,
    Market,
    Results,
    Session,
    SessionConfig,
    SymbolNotFound,
    format_time,
)
from candlestep.sandbox.clock import DAY, MINUTE
from candlestep.sandbox.exchange.margin.reports import MarginPosition
from candlestep.sandbox.performance.chart_columns import (
    Range,
    candle_columns,
    fill_markers,
    fitting_interval,
    gathered_markers,
    thinned,
)
from candlestep.sandbox.performance.charts import (
    MOST_CANDLES,
    MOST_MARKERS,
    Chart,
    Curve,
    FillMarker,
    comparison_chart,
    monthly_chart,
)
from candlestep.sandbox.performance.drawdowns import underwater, worst_drawdowns
from candlestep.sandbox.performance.metrics import EquitySeries, max_drawdown
from candlestep.sandbox.performance.monthly_returns import MonthlyReturn, monthly_returns
from candlestep.sandbox.performance.plots import compare_figure, heatmap_cells, sweep_figure

START = 1_735_689_600_000
"""2025-01-01."""


def walk(count: int, seed: int = 1, symbol: str = "BTCUSDT", interval: str = "1m") -> Candles:
    """Return candles of a random walk from 2025 on."""
    random = np.random.default_rng(seed)
    close = np.round(100 * np.exp(np.cumsum(random.normal(0, 0.002, count))), 2)
    opens = np.concatenate([[100.0], close[:-1]])
    length = {"1m": MINUTE, "1h": 60 * MINUTE, "1d": DAY}[interval]
    return Candles(
        symbol=symbol,
        interval=interval,
        open_time=START + length * np.arange(count),
        open=opens,
        high=np.maximum(opens, close) + 0.1,
        low=np.minimum(opens, close) - 0.1,
        close=close,
        volume=np.ones(count),
    )


def session_of(candles: Candles, minutes: int | None = None) -> Session:
    count = len(candles) if minutes is None else minutes
    config = SessionConfig(
        start_time=START, end_time=START + count * MINUTE, starting_balance="10000"
    )
    return Session(config, Market([candles]))


def trade(session: Session, orders: int, every: int = 1) -> None:
    """Buy and sell in turn, once every so many steps."""
    for number in range(orders):
        side = "sell" if number % 2 else "buy"
        session.place_order(symbol="BTCUSDT", side=side, type="market", quantity="0.1")
        session.step(every)


def trace(chart: Chart, name: str) -> Mapping[str, Any]:
    return next(trace for trace in chart["data"] if trace.get("name") == name)


def marked(chart: Chart) -> tuple[int, float]:
    """Return how many fills the markers stand for, and the sum of their quantities."""
    data = [*trace(chart, "buys")["customdata"], *trace(chart, "sells")["customdata"]]
    return sum(count for count, _, _ in data), sum(quantity for _, quantity, _ in data)


# Candles


@settings(max_examples=40)
@given(now=st.integers(0, 3000), start=st.integers(0, 3000), length=st.integers(1, 3000))
def test_a_chart_has_only_candles_that_are_complete(now: int, start: int, length: int) -> None:
    candles = walk(3000)
    shown = Range(START + start * MINUTE, START + (start + length) * MINUTE)
    for interval in (MINUTE, 15 * MINUTE):
        columns = candle_columns(candles, shown, START + now * MINUTE, interval)
        assert all(columns.open_time + interval <= START + now * MINUTE)
        assert all(columns.open_time < shown.end)
        # Those that the exchange gives for the same time, from the first one shown on.
        expected = [
            candle
            for candle in Market([candles]).candles(
                "BTCUSDT", START + now * MINUTE, interval // 1000, 3000
            )
            if shown.start < candle.complete_time and candle.open_time < shown.end
        ]
        assert [format_time(int(t)) for t in columns.open_time] == [
            format_time(candle.open_time) for candle in expected
        ]
        for field in ("open", "high", "low", "close"):
            found = [Decimal(repr(x)) for x in getattr(columns, field).tolist()]
            assert found == [getattr(candle, field) for candle in expected]


@settings(max_examples=40)
@given(minutes=st.integers(1, 60 * 24 * 3660))
def test_no_chart_has_more_than_2000_candles(minutes: int) -> None:
    shown = Range(START, START + minutes * MINUTE)
    interval = fitting_interval(walk(10), shown)
    assert (shown.end - shown.start) / interval <= MOST_CANDLES
    assert interval == MINUTE or (shown.end - shown.start) / MINUTE > MOST_CANDLES


def test_a_chart_is_never_finer_than_the_data_or_the_session() -> None:
    shown = Range(START, START + 3 * DAY)
    assert fitting_interval(walk(10, interval="1h"), shown) == 60 * MINUTE
    assert fitting_interval(walk(10), Range(START, START + DAY), 15 * MINUTE) == 15 * MINUTE


# Fills


def test_up_to_1000_fills_have_a_marker_each() -> None:
    session = session_of(walk(3000))
    trade(session, MOST_MARKERS)
    chart = session.record().chart()
    times = [*trace(chart, "buys")["x"], *trace(chart, "sells")["x"]]
    assert sorted(times) == [fill.time for fill in session.fills]
    assert [*trace(chart, "buys")["y"]] == [
        float(f.price) for f in session.fills if f.side == "buy"
    ]


def test_more_fills_share_markers_whose_counts_and_sums_add_up() -> None:
    session = session_of(walk(3000))
    trade(session, 2 * MOST_MARKERS)
    assert len(session.fills) == 2 * MOST_MARKERS
    chart = session.record().chart(end=START + 2900 * MINUTE)
    count, quantity = marked(chart)
    assert count == len(session.fills)
    assert quantity == pytest.approx(float(sum(fill.quantity for fill in session.fills)))
    pnl = sum(pnl for _, _, pnl in trace(chart, "sells")["customdata"])
    assert pnl == pytest.approx(float(session.account.realized_pnl))
    assert all(pnl is None for _, _, pnl in trace(chart, "buys")["customdata"])
    assert len(trace(chart, "buys")["x"]) < MOST_MARKERS


@settings(max_examples=25)
@given(first=st.integers(0, 1300), length=st.integers(1, 1300))
def test_the_markers_of_a_range_are_its_fills(first: int, length: int) -> None:
    session = session_of(walk(1300))
    trade(session, 1200)
    shown = Range(START + first * MINUTE, START + (first + length) * MINUTE)
    inside = [fill for fill in session.fills if shown.start <= fill.time <= shown.end]
    markers = gathered_markers(fill_markers(session.fills), shown, 5 * MINUTE)
    assert sum(marker.fills for marker in markers) == len(inside)
    sides = Counter(fill.side for fill in inside)
    for side in ("buy", "sell"):
        assert sum(m.fills for m in markers if m.side == side) == sides[side]


def test_orders_that_waited_are_lines_until_they_closed_or_now() -> None:
    session = session_of(walk(300))
    session.place_order(symbol="BTCUSDT", side="buy", quantity="1")
    stop = session.place_order(
        symbol="BTCUSDT", side="sell", type="stop_loss", quantity="1", trigger_price="50"
    )
    session.step(100)
    session.cancel_order(stop.id)
    session.place_order(symbol="BTCUSDT", side="buy", type="limit", quantity="1", price="40")
    session.step(100)
    chart = session.record().chart()
    assert trace(chart, "stops")["x"] == [START, START + 100 * MINUTE, None]
    assert trace(chart, "stops")["y"] == [50.0, 50.0, None]
    assert trace(chart, "limit orders")["x"] == [START + 100 * MINUTE, START + 200 * MINUTE, None]
    assert trace(chart, "stops")["line"]["dash"] != trace(chart, "limit orders")["line"]["dash"]


def test_a_stop_that_becomes_a_limit_order_is_a_line_of_each() -> None:
    session = session_of(walk(300))
    session.place_order(symbol="BTCUSDT", side="buy", quantity="1")
    order = session.place_order(
        symbol="BTCUSDT", side="sell", type="stop_limit", quantity="1", price="120",
        trigger_price="99.5",
    )  # fmt: skip
    session.step(250)
    order = session.order(order.id)
    assert order.triggered_at is not None
    assert order.status == "pending"
    chart = session.record().chart()
    assert trace(chart, "stops")["x"] == [START, order.triggered_at, None]
    assert trace(chart, "stops")["y"] == [99.5, 99.5, None]
    assert trace(chart, "limit orders")["x"] == [order.triggered_at, session.time, None]
    assert trace(chart, "limit orders")["y"] == [120.0, 120.0, None]


def test_legs_of_a_bracket_are_lines_that_name_their_entry() -> None:
    session = session_of(walk(300))
    entry = session.place_order(
        symbol="BTCUSDT", side="buy", quantity="1", stop_loss="50", take_profit="150"
    )
    session.step(10)
    chart = session.record().chart()
    for name, price in (("stops", 50.0), ("take-profits", 150.0)):
        assert trace(chart, name)["x"] == [START, session.time, None]
        assert trace(chart, name)["y"] == [price, price, None]
        assert f"guards order {entry.id}" in trace(chart, name)["hovertext"][0]


@pytest.mark.parametrize("activation", [None, "100.3"])
@pytest.mark.parametrize("trigger", ["path", "close"])
def test_the_line_of_a_trailing_stop_moves_with_its_trigger(
    activation: str | None, trigger: Literal["path", "close"]
) -> None:
    config = SessionConfig(
        start_time=START, end_time=START + 900 * MINUTE, starting_balance="10000", trigger=trigger
    )
    session = Session(config, Market([walk(900)]))
    session.place_order(symbol="BTCUSDT", side="buy", quantity="1")
    order = session.place_order(
        symbol="BTCUSDT", side="sell", type="trailing_stop", quantity="1", trail_percent="2",
        activation_price=activation,
    )  # fmt: skip
    expected: list[float] = []
    while session.status == "running" and session.order(order.id).status == "pending":
        price = session.trailing_trigger(order.id)
        if price is not None and [float(price)] != expected[-1:]:
            expected.append(float(price))
        session.step()
    order = session.order(order.id)
    assert order.status == "filled"
    line = trace(session.record().chart(), "trailing stops")
    assert line["y"][::3] == line["y"][1::3] == expected
    assert line["x"][3::3] == line["x"][1:-3:3], "each level lasts until the next"
    assert line["x"][-2] == order.closed_at


def test_a_symbol_that_is_not_there_is_refused() -> None:
    session = session_of(walk(10))
    with pytest.raises(SymbolNotFound):
        session.record().chart("ETHUSDT")


# Equity


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), count=st.integers(1, 5000))
def test_a_thinned_curve_keeps_the_extremes(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    equity = 100 * np.exp(np.cumsum(random.normal(0, 0.01, count)))
    times = START + MINUTE * np.arange(count)
    drawdown = underwater(EquitySeries(times, equity), 100.0)
    curve = thinned(Curve(times, equity, drawdown), Range(START, START + count * MINUTE))
    assert len(curve.time) <= 2002
    assert all(later > earlier for earlier, later in pairwise(curve.time.tolist()))
    assert curve.equity.max() == equity.max()
    assert curve.equity.min() == equity.min()
    assert curve.drawdown.min() == drawdown.min()
    assert curve.equity[-1] == equity[-1]


def test_a_curve_starts_with_its_value_at_the_start_of_the_range() -> None:
    curve = Curve(
        START + np.array([0, 10, 20]), np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 0.0])
    )
    part = thinned(curve, Range(START + 15, START + 19))
    assert part.time.tolist() == [START + 15]
    assert part.equity.tolist() == [2.0]


def equity_lists() -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(1, 1000), min_size=1, max_size=40)


@settings(max_examples=60)
@given(equity=equity_lists())
def test_the_worst_drawdown_is_that_of_the_metrics(equity: list[float]) -> None:
    series = EquitySeries(START + DAY * np.arange(len(equity)), np.array(equity))
    periods = worst_drawdowns(series, 500.0, 100)
    known = max_drawdown(series, 500.0)
    depths = [period.depth_pct for period in periods]
    assert depths == sorted(depths, reverse=True)
    assert max(depths, default=0.0) == pytest.approx(known.depth * 100)
    assert max((p.duration for p in periods), default=0) == known.duration
    assert max((p.amount for p in periods), default=0.0) == pytest.approx(known.amount)
    assert min(underwater(series, 500.0), default=0) == pytest.approx(-known.depth * 100)


def test_the_drawdowns_of_an_example_by_hand() -> None:
    equity = [100.0, 120.0, 90.0, 60.0, 120.0, 130.0, 117.0]
    series = EquitySeries(START + DAY * np.arange(7), np.array(equity))
    deep, last = worst_drawdowns(series, 100.0)
    assert (deep.peak_time, deep.trough_time, deep.recovery_time) == (
        START + DAY,
        START + 3 * DAY,
        START + 4 * DAY,
    )
    assert (deep.depth_pct, deep.amount, deep.duration) == (50.0, 60.0, 2 * DAY)
    assert last.recovery_time is None
    assert last.depth_pct == pytest.approx(10.0)
    assert worst_drawdowns(series, 100.0, 1) == [deep]


@settings(max_examples=40)
@given(equity=equity_lists(), days=st.integers(1, 45))
def test_monthly_returns_multiply_to_the_total_return(equity: list[float], days: int) -> None:
    series = EquitySeries(START + days * DAY * np.arange(len(equity)), np.array(equity))
    returns = monthly_returns(series, 500.0)
    growth = 1.0
    for entry in returns:
        assert entry.return_pct is not None
        growth *= 1 + entry.return_pct / 100
    assert growth == pytest.approx(equity[-1] / 500)
    months = [entry.month for entry in returns]
    assert months == sorted(set(months))
    assert months[0] == "2025-01"


def test_a_candle_that_completes_at_the_end_of_a_month_belongs_to_it() -> None:
    times = np.array([START, START + 31 * DAY, START + 45 * DAY])
    series = EquitySeries(times, np.array([100.0, 110.0, 99.0]))
    first, second = monthly_returns(series, 100.0)
    assert (first.month, second.month) == ("2025-01", "2025-02")
    assert first.return_pct == pytest.approx(10.0)
    assert second.return_pct == pytest.approx(-10.0)


def test_equity_of_nothing_has_no_return() -> None:
    times = np.array([START, START + 20 * DAY, START + 45 * DAY])
    returns = monthly_returns(EquitySeries(times, np.array([100.0, 0.0, 0.0])), 100.0)
    assert [entry.return_pct for entry in returns] == [-100.0, None]


def test_the_curve_of_a_session_ends_at_its_equity_and_its_exposure() -> None:
    session = session_of(walk(300))
    session.place_order(symbol="BTCUSDT", side="buy", quantity="10")
    session.step(200)
    curve = session.record().curve
    portfolio = session.portfolio()
    assert curve.equity[-1] == pytest.approx(float(portfolio.total_equity))
    assert curve.exposure is not None
    share = float(portfolio.position_value / portfolio.total_equity)
    assert curve.exposure[-1] == pytest.approx(share * 100)
    worst = session.record().worst_drawdowns()[0]
    assert worst.depth_pct == pytest.approx(session.results().metrics.max_drawdown_pct)


def test_a_short_has_its_notional_as_exposure_and_its_liquidation_price_as_a_line() -> None:
    config = SessionConfig(
        start_time=START, end_time=START + 300 * MINUTE, starting_balance="1000",
        market_type="perp", leverage=10, funding=False, mark="last",
    )  # fmt: skip
    session = Session(config, Market([walk(300, symbol="SOLUSDT-PERP")]))
    session.place_order(symbol="SOLUSDT-PERP", side="sell", quantity="20")
    session.step(300)
    record, portfolio = session.record(), session.portfolio()
    (position,) = session.positions()
    assert record.curve.exposure is not None
    notional = abs(float(position.quantity)) * float(session.price("SOLUSDT-PERP"))
    share = notional / float(portfolio.total_equity) * 100
    assert record.curve.exposure[-1] == pytest.approx(share)
    assert record.curve.equity[-1] == pytest.approx(float(portfolio.total_equity))
    line = trace(record.chart(), "liquidation price")
    assert isinstance(position, MarginPosition)
    assert position.liquidation_price is not None
    assert line["y"] == [float(position.liquidation_price)] * 2 + [None]
    assert line["y"][0] > float(position.current_price)


def test_a_liquidation_has_a_marker_of_its_own_in_place_of_that_of_its_side() -> None:
    config = SessionConfig(
        start_time=START, end_time=START + 300 * MINUTE, starting_balance="100",
        market_type="perp", leverage=50, funding=False, mark="last",
    )  # fmt: skip
    session = Session(config, Market([walk(300, symbol="SOLUSDT-PERP")]))
    session.place_order(symbol="SOLUSDT-PERP", side="buy", quantity="40")
    names = [trace["name"] for trace in session.record().chart()["data"]]
    assert "liquidations" not in names, "no trace of what there is none of"
    session.step(300)
    (liquidation,) = session.liquidations
    assert [fill.side for fill in session.fills] == ["buy", "sell"]
    chart = session.record().chart()
    marker = trace(chart, "liquidations")
    assert (marker["x"], marker["y"]) == ([liquidation.time], [float(liquidation.price)])
    assert marker["hovertemplate"].startswith("<b>liquidation</b> %{customdata[1]")
    assert (len(trace(chart, "buys")["x"]), len(trace(chart, "sells")["x"])) == (1, 0)
    looks = [trace(chart, name)["marker"] for name in ("buys", "sells", "liquidations")]
    assert len({look["symbol"] for look in looks}) == len({look["color"] for look in looks}) == 3


def test_the_text_of_a_marker_has_the_pnl_of_the_fills_that_realized_any() -> None:
    session = session_of(walk(300))
    trade(session, 4)
    chart = session.record().chart()
    assert "PnL" not in trace(chart, "buys")["hovertemplate"]
    assert "PnL" in trace(chart, "sells")["hovertemplate"]
    config = SessionConfig(
        start_time=START, end_time=START + 300 * MINUTE, starting_balance="1000",
        market_type="perp", leverage=5, funding=False, mark="last",
    )  # fmt: skip
    session = Session(config, Market([walk(300, symbol="SOLUSDT-PERP")]))
    for side, quantity in (("buy", "2"), ("sell", "4"), ("buy", "2"), ("buy", "1")):
        session.place_order(symbol="SOLUSDT-PERP", side=side, type="market", quantity=quantity)
    opening, closing, again = trace(session.record().chart(), "buys")["hovertemplate"]
    assert opening == again
    assert closing.replace("PnL %{customdata[2]:+,.2f}<br>", "") == opening


def test_gathered_liquidations_stay_apart_from_the_fills_of_their_side() -> None:
    markers = [
        FillMarker(START + 1 + number, "buy", 100.0, 1.0, -1.0, 1, is_liquidation=number % 3 == 0)
        for number in range(2 * MOST_MARKERS)
    ]
    gathered = gathered_markers(markers, Range(START, START + DAY), MINUTE)
    counts = {marker.is_liquidation: marker.fills for marker in gathered}
    forced = sum(marker.is_liquidation for marker in markers)
    assert (len(gathered), counts) == (2, {True: forced, False: len(markers) - forced})


def test_a_record_stays_as_it_was_made() -> None:
    session = session_of(walk(300))
    session.step(100)
    record = session.record()
    results = session.results()
    session.place_order(symbol="BTCUSDT", side="buy", quantity="10")
    session.step(100)
    assert len(record.fills) == 0
    assert set(record.curve.equity.tolist()) == {10000.0}
    assert set(results.record().curve.equity.tolist()) == {10000.0}
    assert record.chart()["data"][0]["x"][-1] == START + 99 * MINUTE


# Several


def test_a_comparison_starts_at_100() -> None:
    times = START + DAY * np.arange(3)
    curves = {
        name: Curve(times, np.array(equity), np.zeros(3))
        for name, equity in {"a": [200.0, 300.0, 100.0], "b": [5.0, 5.0, 6.0]}.items()
    }
    chart = comparison_chart(curves)
    rebased = [trace["y"] for trace in chart["data"] if trace.get("yaxis") != "y2"]
    assert rebased == [[100.0, 150.0, 50.0], [100.0, 100.0, 120.0]]
    dashes = [trace["line"]["dash"] for trace in chart["data"][::2]]
    assert len(set(dashes)) == 2


def test_the_months_of_a_year_are_a_row() -> None:
    chart = monthly_chart([MonthlyReturn("2024-12", 1.5), MonthlyReturn("2025-02", -2.0)])
    assert chart["data"][0]["y"] == ["2024", "2025"]
    assert chart["data"][0]["z"] == [[None] * 11 + [1.5], [None, -2.0] + [None] * 10]


@pytest.mark.parametrize(("higher_is_better", "best"), [(True, (3.0, "c")), (False, (1.0, "a"))])
def test_a_cell_has_the_best_of_its_runs(higher_is_better: bool, best: tuple[float, str]) -> None:
    cells = [(10, 5, 1.0, "a"), (10, 5, None, "b"), (10, 5, 3.0, "c"), (9, 5, None, "d")]
    xs, ys, values, names = heatmap_cells(cells, higher_is_better=higher_is_better)
    assert (xs, ys) == ([9, 10], [5])
    assert values == [[None, best[0]]]
    assert names == [["d", best[1]]]


def test_values_of_parameters_are_sorted_by_size() -> None:
    cells = [(x, "y", 1.0, None) for x in (100, 5, "b", 20, "a")]
    assert heatmap_cells(cells, higher_is_better=True)[0] == [5, 20, 100, "a", "b"]


# Notebooks


def swept() -> Sequence[tuple[dict[str, int], Results]]:
    runs = []
    for every in (1, 5):
        for orders in (2, 4):
            session = session_of(walk(300))
            trade(session, orders, every)
            session.step(300)
            runs.append(({"every": every, "orders": orders}, session.results()))
    return runs


def test_figures_are_those_of_plotly() -> None:
    plotly = pytest.importorskip("plotly.graph_objects")
    runs = swept()
    session = session_of(walk(300))
    trade(session, 4)
    results = session.results()
    figures = [
        session.plot(),
        session.plot("BTC/USDT", "2025-01-01T01:00:00Z", "2025-01-01T02:00:00Z"),
        results.plot(),
        compare_figure([result for _, result in runs]),
        compare_figure({"first": runs[0][1], "last": runs[-1][1]}),
        sweep_figure(runs, "every", "orders", "total_fees"),
    ]
    for figure in figures:
        assert isinstance(figure, plotly.Figure)
    assert {trace.type for figure in figures for trace in figure.data} == {
        "candlestick", "scatter", "heatmap",
    }  # fmt: skip
    heat = figures[-1].data[0]
    assert [list(row) for row in heat.z] == [
        [float(runs[0][1].total_fees), float(runs[2][1].total_fees)],
        [float(runs[1][1].total_fees), float(runs[3][1].total_fees)],
    ]


def test_a_figure_has_instants_of_utc_which_no_zone_of_a_browser_moves() -> None:
    pytest.importorskip("plotly.graph_objects")
    session = session_of(walk(300))
    session.place_order(symbol="BTCUSDT", side="buy", quantity="1")
    session.step(300)
    figure = session.plot(start="2025-01-01T01:00:00Z", end="2025-01-01T02:00:00Z")
    hours = (datetime(2025, 1, 1, 1), datetime(2025, 1, 1, 2))
    assert (figure.data[0].x[0], figure.layout.xaxis.range) == (hours[0], hours)
    shaded = session.record().equity_figure().layout.shapes
    assert shaded
    assert all(isinstance(time, datetime) for shape in shaded for time in (shape.x0, shape.x1))


def test_a_sweep_needs_a_metric_and_parameters_that_there_are() -> None:
    runs = swept()
    with pytest.raises(InvalidParameter, match="metric"):
        sweep_figure(runs, "every", "orders", "profit")
    with pytest.raises(InvalidParameter, match="x"):
        sweep_figure(runs, "eevry", "orders")


def test_tables_have_no_script_and_escape_what_they_show() -> None:
    session = session_of(walk(300))
    name = "<script>alert(1)</script>"
    session.place_order(
        symbol="BTCUSDT", side="buy", type="limit", quantity="1", price="1", client_order_id=name
    )
    session.step(5)
    orders = session.orders._repr_html_()
    assert "&lt;script&gt;" in orders
    for table in (orders, session._repr_html_(), session.results()._repr_html_()):
        assert table.startswith("<table>")
        assert "<script" not in table
    assert "10000" in session._repr_html_()


def test_a_long_table_shows_its_ends() -> None:
    session = session_of(walk(300))
    trade(session, 100)
    table = session.fills._repr_html_()
    assert table.startswith("<table><caption>100 × Fill</caption>")
    assert table.count("<tr>") == 1 + 61


def test_results_that_were_copied_say_that_they_cannot_be_plotted() -> None:
    import pickle

    results = session_of(walk(10)).results()
    copied = pickle.loads(pickle.dumps(results))
    assert copied == results
    with pytest.raises(InvalidState, match="copy"):
        copied.plot()
