"""One strategy through every engine: the same decisions have the same outcome.

Engines other than the sandbox may differ by these rules, each of which is checked by computing it
again:

- They compute in binary floats. Prices agree to their last digit or two.
- The sandbox charges its fee on the notional rounded to 8 places, they on the notional before
  rounding, and round the result when it is posted. Fees differ by 1e-8 at most.
- The difference in equity is exactly the difference in the cost and proceeds of fills, at every
  candle, because all fills are posted to the same ledger.
- Cash that differs in the eighth place may buy more or less, in lots of 1e-8.
- With little cash left, its eighth place may decide whether it buys anything at all.
- vectorbt considers cash used up when less than 1e-9 of it is left.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from candlestep.api.jobs.run import execute_run
from candlestep.data.records.jobs import RunSpec
from candlestep.sandbox import (
    Candles,
    Fill,
    Filters,
    Instrument,
    InvalidParameter,
    Market,
    RiskProfile,
    SessionConfig,
    closed_trades,
    parse_time,
)
from candlestep.sandbox.engines import EngineRun, engines, run_engine
from candlestep.sandbox.engines.run import EngineFailed, check_engine, load_adapter
from candlestep.sandbox.strategies import Cancelled, compile_strategy, signal_plan
from tests.support.cards import cards
from tests.support.case_strategies import cases
from tests.support.real_candles import eurusd, minutes
from tests.support.session_cases import Case, market_of, session_config

OTHERS = ["backtrader", "vectorbt"]
EIGHT = Decimal("1e-8")
HOUR = 3_600_000
FEE = Decimal("0.001")
SLIPPAGE = Decimal("0.0005")
LEAST = Decimal("0.001")
"""With less than this, the eighth place of the cash may decide whether anything is bought."""
FLOAT = 4e-16
"""Two roundings of a float."""

SMA_CROSS = {"template": "tpl_sma_cross", "timeframe": "1h"}
TEMPLATES = [
    "buy_and_hold",
    "sma_cross",
    "ema_cross",
    "rsi",
    "bollinger",
    "breakout",
    "macd",
    "dca",
]


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest) -> str:
    return installed(request.param)


def installed(name: str) -> str:
    if name not in engines():
        pytest.skip(f"{name} is not installed")
    return name


def config(**options: Any) -> SessionConfig:
    return SessionConfig(
        **{
            "start_time": "2024-10-03",
            "end_time": "2024-10-31",
            "starting_balance": "10000",
            "candle_interval": "1h",
            "fee_rate": FEE,
            "slippage": {"model": "fixed_bps", "bps": 5},
            **options,
        }
    )


def through(
    name: str, content: dict[str, Any], config: SessionConfig, market: Market, **options: Any
) -> EngineRun:
    return run_engine(name, compile_strategy(content), config, market, **options)


@pytest.fixture(scope="module")
def october() -> Market:
    return Market([minutes("BTCUSDT", "2024-10"), minutes("ETHUSDT", "2024-10")])


def rounded(amount: Decimal) -> Decimal:
    return amount.quantize(EIGHT, ROUND_HALF_UP)


def paid(fill: Fill) -> Decimal:
    """Return the cash that the fill took."""
    return fill.quote_amount + fill.fee if fill.side == "buy" else fill.fee - fill.quote_amount


# The one strategy on real candles, all of it


@pytest.mark.parametrize("liquidate", [False, True], ids=["kept", "sold at the end"])
def test_an_sma_cross_on_real_candles_is_the_same_but_for_what_rules_explain(
    other: str, october: Market, liquidate: bool
) -> None:
    content = {**SMA_CROSS, "symbols": ["BTCUSDT"]}
    session = config(liquidate_at_end=liquidate)
    ours = through("sandbox", content, session, october)
    theirs = through(other, content, session, october)

    assert len(ours.fills) == 15 + liquidate, "it trades; the last position is open at the end"
    assert [position.symbol for position in ours.positions] == ([] if liquidate else ["BTCUSDT"])
    assert decided(theirs) == decided(ours)
    assert occasions(theirs.fills) == occasions(ours.fills)

    for their, our in zip(theirs.fills, ours.fills, strict=True):
        assert their.quantity == our.quantity, "no lot differs here"
        assert float(their.price) == pytest.approx(float(our.price), rel=FLOAT)
        assert their.quote_amount == our.quote_amount
        # Of the rounded notional, and of the notional.
        assert our.fee == rounded(our.quote_amount * FEE)
        assert their.fee == rounded(our.quantity * our.price * FEE)
        assert abs(their.fee - our.fee) <= EIGHT

    assert (theirs.equity_time == ours.equity_time).all()
    assert len(ours.equity_time) == 28 * 24 + 1, "the start, and every hour since"
    for time, their_equity, our_equity in zip(
        ours.equity_time.tolist(), theirs.equity.tolist(), ours.equity.tolist(), strict=True
    ):
        until = zip(theirs.fills, ours.fills, strict=True)
        explained = sum(paid(our) - paid(their) for their, our in until if our.time <= time)
        assert their_equity - our_equity == explained / EIGHT

    assert len(theirs.trades) == len(ours.trades)
    assert theirs.results.total_fees == sum(fill.fee for fill in theirs.fills)
    assert metrics(theirs) == pytest.approx(metrics(ours), rel=1e-9)


def test_the_sandbox_itself_does_what_the_rule_says_in_a_plain_loop(october: Market) -> None:
    """Averages, crosses and sizes by hand, so that the engines do not agree on something wrong."""
    ours = through("sandbox", {**SMA_CROSS, "symbols": ["BTCUSDT"]}, config(), october)
    candles = october.candles_of("BTCUSDT")
    by_hour = dict(zip((candles.open_time // HOUR).tolist(), candles.close.tolist(), strict=True))
    hours_of_data, closes = list(by_hour), list(by_hour.values())
    start, end = (parse_time(f"2024-10-{day}") // HOUR for day in ("03", "31"))
    first, last = hours_of_data.index(start - 1), hours_of_data.index(end - 1)
    cash, held, expected = 10_000.0, 0.0, []
    for hour in range(first, last):
        now, before = [
            math.fsum(closes[at - 9 : at + 1]) / 10 - math.fsum(closes[at - 49 : at + 1]) / 50
            if at >= 49
            else math.nan
            for at in (hour, hour - 1)
        ]
        price = closes[hour]
        if not held and before <= 0 < now:
            price *= 1.0005
            held = math.floor(cash * 0.95 / (price * 1.001) * 1e8) / 1e8
            cash -= held * price * 1.001
            expected.append((hour, held, price))
        elif held and before >= 0 > now:
            price *= 0.9995
            cash += held * price * 0.999
            expected.append((hour, held, price))
            held = 0.0
    fills = [
        (hours_of_data.index(fill.time // HOUR - 1), fill.quantity, fill.price)
        for fill in ours.fills
    ]
    assert [row[0] for row in fills] == [row[0] for row in expected]
    for column in (1, 2):
        assert [float(row[column]) for row in fills] == pytest.approx(
            [row[column] for row in expected], rel=1e-9
        )
    final = cash + held * closes[last]
    assert float(ours.results.final_equity) == pytest.approx(final, rel=1e-12)


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_of_rules_comes_to_the_same(
    other: str, october: Market, template: str
) -> None:
    """Two symbols share the cash: the first takes what the second lacks."""
    content = {"template": f"tpl_{template}", "timeframe": "1h"}
    ours = through("sandbox", content, config(), october)
    theirs = through(other, content, config(), october)
    assert {fill.symbol for fill in ours.fills} == {"BTCUSDT", "ETHUSDT"}
    assert_alike(theirs, ours)


def test_holes_in_the_candles_change_nothing(other: str) -> None:
    """A year of EURUSD without its weekends."""
    candles = eurusd()
    session = config(
        start_time=int(candles.complete_time[100]), end_time="2018-04-01", allow_gaps=True
    )
    content = {"template": "tpl_ema_cross", "parameters": {"equity_share": 1}}
    ours = through("sandbox", content, session, Market([candles]))
    assert len(ours.fills) > 150
    assert_alike(through(other, content, session, Market([candles])), ours)


def test_steps_finer_than_the_timeframe_change_nothing(other: str, october: Market) -> None:
    """The session's candles count for the metrics, whatever those of the engine were."""
    content = {**SMA_CROSS, "timeframe": "4h"}
    session = config(candle_interval="5m", start_time="2024-10-03T00:10:00Z")
    ours = through("sandbox", content, session, october)
    theirs = through(other, content, session, october)
    assert_alike(theirs, ours)
    assert theirs.results.metrics.candles_in_market == ours.results.metrics.candles_in_market


def decided(run: EngineRun) -> list[tuple[Any, ...]]:
    return [(signal.time, signal.symbol, signal.action, signal.refused) for signal in run.signals]


def occasions(fills: Any) -> list[tuple[Any, ...]]:
    return [(fill.id, fill.time, fill.symbol, fill.side, fill.slippage) for fill in fills]


def metrics(run: EngineRun) -> dict[str, Any]:
    figures = msgspec.structs.asdict(run.results.metrics)
    figures.pop("returns_grid")
    return {
        name: float(value) if isinstance(value, Decimal) else value
        for name, value in figures.items()
    }


def assert_alike(theirs: EngineRun, ours: EngineRun) -> None:
    """Assert that decisions and times are equal, quantities to a lot, and money accordingly."""
    assert decided(theirs) == decided(ours)
    assert occasions(theirs.fills) == occasions(ours.fills)
    lots = 0.0
    for their, our in zip(theirs.fills, ours.fills, strict=True):
        price = float(our.price)
        difference = abs(float(their.quantity - our.quantity))
        # The lots by which earlier fills differ left more or less cash for this one.
        rounding = 1.01e-8 + float(our.quantity) * 1e-9 + (our.id * 2e-8 + lots) / price
        assert difference <= rounding
        lots += difference * price
        assert float(their.price) == pytest.approx(price, rel=FLOAT, abs=1e-16)
    money = lots + 2e-8 * len(ours.fills)
    assert (theirs.equity_time == ours.equity_time).all()
    their_equity, our_equity = (run.equity.astype(float) * 1e-8 for run in (theirs, ours))
    assert their_equity == pytest.approx(our_equity, rel=1e-9, abs=money)
    assert theirs.candles == ours.candles
    assert list(theirs.trades) == closed_trades(theirs.fills)


# Any card on small markets


@settings(
    max_examples=max(1, settings().max_examples // 3), suppress_health_check=list(HealthCheck)
)
@given(case=cases(), content=cards(), name=st.sampled_from(OTHERS), data=st.data())
def test_any_card_of_rules_comes_to_the_same(
    case: Case, content: dict[str, Any], name: str, data: st.DataObject
) -> None:
    installed(name)
    for entry in content["entries"]:
        entry.pop("stop_loss", None)
        entry.pop("take_profit", None)
    case_config = session_config(case.config)
    session = SessionConfig(
        start_time=case_config.start_time,
        end_time=case_config.end_time,
        starting_balance=case_config.starting_balance,
        candle_interval=case_config.clock.interval // 1000,
        fee_rate=data.draw(st.sampled_from(["0", "0.001", "0.25"]), label="fee"),
        slippage={"model": "fixed_bps", "bps": data.draw(st.sampled_from([0, 5, 300]))},
        liquidate_at_end=case_config.liquidate_at_end,
        allow_gaps=True,
    )
    market = market_of(case.market)
    try:
        ours = through("sandbox", content, session, market)
    except InvalidParameter as refusal:
        assume(refusal.details["field"] != "timeframe")
        raise
    theirs = through(name, content, session, market)
    assume(all(fill.quote_amount > LEAST for run in (ours, theirs) for fill in run.fills))
    assert_alike(theirs, ours)


# By hand


def hours(closes: list[float], symbol: str = "AAAUSDT") -> Candles:
    price = np.array(closes)
    return Candles(
        symbol=symbol,
        interval="1h",
        open_time=np.arange(len(closes)) * HOUR,
        open=price,
        high=price,
        low=price,
        close=price,
    )


UP_DOWN = {
    "entries": [
        {"when": {"left": "close", "op": "==", "right": 100}, "size": {"quantity": 10}},
        {"when": {"left": "close", "op": "==", "right": 90}, "size": {"quote": 5000}},
    ],
    "exits": [{"when": {"left": "close", "op": ">=", "right": 110}}],
}
BY_HAND = {
    "start_time": HOUR,
    "starting_balance": "2000",
    "slippage": {"model": "fixed_bps", "bps": 100},
}


@pytest.mark.parametrize("name", ["sandbox", *OTHERS])
def test_a_purchase_and_a_sale_by_hand(name: str) -> None:
    market = Market([hours([100, 105, 110, 90, 95])])
    outcome = through(installed(name), UP_DOWN, config(**BY_HAND, end_time=5 * HOUR), market)
    bought, sold = outcome.fills
    # 10 at 101 for 1010 and 1.01; 10 at 108.9 for 1089 and 1.089.
    assert (bought.time, bought.price, bought.quote_amount, bought.fee) == (
        HOUR,
        Decimal(101),
        Decimal(1010),
        Decimal("1.01"),
    )
    assert (sold.time, sold.price, sold.quote_amount, sold.fee) == (
        3 * HOUR,
        Decimal("108.9"),
        Decimal(1089),
        Decimal("1.089"),
    )
    assert sold.realized_pnl == Decimal("76.901")
    # After the purchase 988.99 and 10 times the price; after the sale 2076.901.
    equity = [units * EIGHT for units in outcome.equity.tolist()]
    assert equity == [
        Decimal("1988.99"),
        Decimal("2038.99"),
        Decimal("2076.901"),
        Decimal("2076.901"),
        Decimal("2076.901"),
    ]
    # For 5000 there is not enough: the decision is there, and nothing comes of it.
    assert decided(outcome) == [
        (HOUR, "AAAUSDT", "buy", None),
        (3 * HOUR, "AAAUSDT", "sell", None),
        (4 * HOUR, "AAAUSDT", "buy", "INSUFFICIENT_BALANCE"),
    ]
    (trade,) = outcome.trades
    assert (trade.entry_time, trade.exit_time, trade.pnl) == (HOUR, 3 * HOUR, sold.realized_pnl)
    assert outcome.results.final_equity == Decimal("2076.901")
    assert outcome.results.metrics.total_return == pytest.approx(0.0384505, rel=1e-12)
    assert outcome.results.metrics.candles_in_market == 1, "of those after the start"


def test_what_is_decided_is_known_before_anything_is_bought() -> None:
    """The first entry that is true buys, only some add, and a sale goes before that."""
    card = {
        "entries": [
            {"when": {"left": "close", "op": ">", "right": 104}, "size": {"quantity": 1}},
            {"when": {"left": "close", "op": ">", "right": 95}, "size": {"quote": 5}, "add": True},
        ],
        "exits": [{"when": {"left": "close", "op": ">=", "right": 110}}],
    }
    market = Market([hours([100, 105, 110, 90, 95, 99])])
    plan = signal_plan(compile_strategy(card), config(**BY_HAND, end_time=6 * HOUR), market)
    (decided,) = plan.by_symbol
    assert decided.symbol == "AAAUSDT"
    assert decided.steps.tolist() == [0, 1, 2, 3, 4], "nothing is decided at the end"
    assert decided.entries.tolist() == [1, 0, 0, -1, -1]
    assert decided.long.adds.tolist() == [1, 1, 1, -1, -1]
    assert decided.long.exits.tolist() == [False, False, True, False, False]
    assert decided.short.entries.tolist() == [-1] * 5
    assert (plan.timeframe, plan.candles) == (HOUR, 5)
    for content in (GRID, PROGRAM):
        with pytest.raises(InvalidParameter, match="programs and grids are not possible"):
            signal_plan(compile_strategy(content), config(), market)


# Which engines there are, and what they refuse


def test_the_sandbox_is_always_there_and_others_if_installed() -> None:
    def none_installed(name: str) -> bool:
        return False

    assert engines(none_installed) == ["sandbox"]
    with pytest.raises(InvalidParameter, match=r"candlestep\[vectorbt\]") as refusal:
        check_engine("vectorbt", compile_strategy(UP_DOWN), config(), none_installed)
    assert refusal.value.details["field"] == "engine"
    assert engines(lambda name: name == "backtrader") == ["backtrader", "sandbox"]


@pytest.mark.parametrize("name", ["zipline", "", "sandbox ", "os"])
def test_an_unknown_engine_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(InvalidParameter, match=f"is not one of {', '.join(engines())}"):
        through(name, UP_DOWN, config(), Market([hours([1, 2])]))


GUARDED = {"template": "tpl_sma_cross", "parameters": {"stop_loss_pct": 2}}
TARGETED = {"template": "tpl_sma_cross", "parameters": {"take_profit_pct": 2}}
GRID = {"template": "tpl_grid", "parameters": {"lower_price": 1, "upper_price": 2}}
PROGRAM = {"source": "def on_candle(ctx):\n    pass\n"}
FILTERED = Instrument("BTCUSDT", filters=Filters(step_size=Decimal("0.1")))


@pytest.mark.parametrize(
    ("feature", "content", "options"),
    [
        ("stop_loss", GUARDED, {}),
        ("take_profit", TARGETED, {}),
        ("grid", GRID, {}),
        ("source", PROGRAM, {}),
        ("fee_model", SMA_CROSS, {"fee_rate": None, "fee_model": "tiered_maker_taker"}),
        ("slippage", SMA_CROSS, {"slippage": {"model": "volume"}}),
        ("risk", SMA_CROSS, {"risk": RiskProfile(max_order_size_pct=Decimal(5))}),
        ("filters", SMA_CROSS, {"instruments": [FILTERED]}),
    ],
)
def test_what_an_engine_cannot_do_is_refused_by_name(
    other: str, feature: str, content: dict[str, Any], options: dict[str, Any]
) -> None:
    strategy = compile_strategy(content)
    with pytest.raises(InvalidParameter, match=f"engine: {other} .*sandbox") as refusal:
        run_engine(other, strategy, config(**options), Market([hours([1, 2])]))
    assert refusal.value.details == {"field": "engine", "feature": feature}
    check_engine("sandbox", strategy, config(**options))


# What goes wrong, and being asked to stop


def test_an_engine_that_raises_fails_in_words(other: str) -> None:
    def execute(orders: object) -> None:
        raise ZeroDivisionError("too little of everything")

    five_hours, market = config(**BY_HAND, end_time=5 * HOUR), Market([hours([100] * 5)])
    with pytest.raises(EngineFailed, match=f"{other} failed: .*too little of everything.*sandbox"):
        through(other, UP_DOWN, five_hours, market, load_adapter=lambda name: execute)


def test_an_engine_whose_equity_is_not_that_of_its_fills_fails(other: str) -> None:
    real_execute = load_adapter(other)

    def execute(orders: Any) -> Any:
        result = real_execute(orders)
        return result._replace(equity=result.equity * (1 + 1e-6))

    five_hours, market = config(**BY_HAND, end_time=5 * HOUR), Market([hours([100] * 5)])
    with pytest.raises(EngineFailed, match=r"its equity at 1970-01-01T01:00:00Z is 1988.99"):
        through(other, UP_DOWN, five_hours, market, load_adapter=lambda name: execute)


@pytest.mark.parametrize("name", ["sandbox", *OTHERS])
def test_a_run_tells_its_progress_and_stops_when_asked(name: str) -> None:
    """Before the first symbol, between symbols, and while the engine runs."""
    closes = [100.0, 110.0] * 300
    market = Market([hours(closes, symbol) for symbol in ("AAAUSDT", "BBBUSDT")])
    strategy = compile_strategy(UP_DOWN)
    session = config(**BY_HAND, end_time=600 * HOUR)
    reported: list[float] = []
    poll_count = 0

    def count() -> bool:
        nonlocal poll_count
        poll_count += 1
        return False

    run_engine(installed(name), strategy, session, market, reported.append, count)
    assert reported == sorted(reported)
    assert reported[-1] == 1.0
    assert 50 < len(reported) <= 101
    for stop in (1, 2, 3, 4, 5, poll_count):
        polls = iter(range(1, stop + 1))
        with pytest.raises(Cancelled):
            run_engine(name, strategy, session, market, None, lambda: next(polls) == stop)  # noqa: B023


def test_a_run_of_a_job_names_its_engine(other: str, tmp_path: Path) -> None:
    candles = [hours([100, 105, 110, 90, 95])]
    spec = RunSpec(
        strategy=UP_DOWN,
        pairs=["AAAUSDT"],
        start_time=HOUR,
        end_time=5 * HOUR,
        interval=HOUR,
        starting_balance="2000",
        config={"fee_rate": "0.001", "slippage": BY_HAND["slippage"]},
        engine=other,
    )

    def execute(spec: RunSpec) -> Any:
        return execute_run(spec, candles, tmp_path, lambda _: None, lambda: False)

    outcome = execute(spec)
    assert outcome.summary.final_equity == Decimal("2076.901")
    assert outcome.files == ["equity", "trades"]
    refused = execute(msgspec.structs.replace(spec, config={}))
    assert refused.error.code == "INVALID_PARAMETER"
    assert f"engine: {other} supports a single slippage rate" in refused.error.message
    unknown = execute(msgspec.structs.replace(spec, engine="zipline"))
    assert unknown.error.code == "INVALID_PARAMETER"
