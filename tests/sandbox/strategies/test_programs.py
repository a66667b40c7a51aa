"""Programs in Starlark: they do what an agent does by hand, see no future and touch nothing."""

from __future__ import annotations

import gc
import weakref
from copy import copy
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from candlestep.sandbox import (
    Candle,
    InvalidParameter,
    Market,
    Order,
    SandboxError,
    Session,
    SessionConfig,
)
from candlestep.sandbox.clock import Clock, interval_name
from candlestep.sandbox.strategies import Cancelled, ProgramFailed, compile_strategy, run
from candlestep.sandbox.strategies.starlark_runner import CHUNK
from tests.support.card_agent import follow
from tests.support.case_strategies import cases, other_futures
from tests.support.runs import FEWER, MINUTE, config, minutes, ordered, outcome, run_or_skip, until
from tests.support.session_cases import Case, answer_of, market_of, session_config

CROSS_CARD: dict[str, Any] = {
    "indicators": {"fast": {"kind": "sma", "period": 2}, "slow": {"kind": "ema", "period": 4}},
    "entries": [
        {
            "when": {"left": "fast", "op": "crosses_above", "right": "slow"},
            "size": {"equity_share": 0.5},
            "stop_loss": {"percent": 1},
            "take_profit": {"percent": 2},
        }
    ],
    "exits": [{"when": {"left": "fast", "op": "crosses_below", "right": "slow"}}],
}
CROSS = """
indicators = {"fast": {"kind": "sma", "period": 2}, "slow": {"kind": "ema", "period": 4}}

def on_candle(ctx):
    before = ctx.previous
    if ctx.position == 0:
        if before.fast <= before.slow and ctx.fast > ctx.slow:
            ctx.buy(equity_share=0.5, stop_loss={"percent": 1}, take_profit={"percent": 2})
    elif before.fast >= before.slow and ctx.fast < ctx.slow:
        ctx.sell()
"""
MAKER = """
def on_candle(ctx):
    state = ctx.state
    for fill in ctx.fills:
        if fill.side == "buy":
            price = fill.price * 1.01
            state["sell"] = ctx.sell(fill.quantity, type="limit", price=price)
    if ctx.position == 0 and not ctx.orders():
        state["age"] = 0
        state["buy"] = ctx.buy(quote=ctx.cash / 2, type="limit", price=ctx.low)
    else:
        state["age"] = state.get("age", 0) + 1
        if state["age"] == 3 and ctx.position == 0:
            ctx.cancel(state["buy"])
        elif state["age"] > 5 and ctx.position > 0:
            for order in ctx.orders():
                ctx.cancel(order.id)
            ctx.sell()
"""


@FEWER
@given(cases())
def test_a_program_and_a_card_and_an_agent_by_hand_order_the_same(case: Case) -> None:
    market, config = market_of(case.market), session_config(case.config)
    finest = case.finest // 1000
    config.clock = Clock.between(config.start_time, config.end_time, max(finest, 60) * 1000)
    content = {"timeframe": finest_of_all(case)}
    by_program = run_or_skip({"source": CROSS, **content}, config, market)
    by_card = run_or_skip({**CROSS_CARD, **content}, config, market)
    by_hand = follow({**CROSS_CARD, **content}, config, market)
    assert outcome(by_program.session) == outcome(by_card.session) == outcome(by_hand)
    assert by_program.signals == by_card.signals


def finest_of_all(case: Case) -> str:
    """Return the finest timeframe that every symbol has."""
    by_symbol = {
        symbol: min(series.interval for series in case.market if series.symbol == symbol)
        for symbol in case.symbols
    }
    return interval_name(max(by_symbol.values()))


def make_by_hand(session: Session, symbol: str) -> None:
    """Do what ``MAKER`` does, as an agent that looks at every step."""
    age, seen, bought = 0, 0, 0
    last = session.time - 1
    while session.status == "running":
        try:
            history: list[Candle] = session.candles(
                symbol, session.config.clock.interval // 1000, 2
            )
        except InvalidParameter:
            history = []
        is_called = len(history) == 2 and history[-1].complete_time > last
        if is_called:
            candle = history[-1]
            last = candle.complete_time
            cash = float(session.account.available_cash)
            fills, seen = session.fills[seen:], len(session.fills)
            held = {position.symbol: position.quantity for position in session.positions()}.get(
                symbol, 0
            )
            for fill in fills:
                if fill.side == "buy":
                    place(
                        session,
                        symbol,
                        "sell",
                        float(fill.quantity),
                        "limit",
                        float(fill.price) * 1.01,
                    )
            if not held and not session.open_orders():
                age = 0
                bought = 0
                quantity = affordable(session, symbol, cash / 2, float(candle.low))
                if quantity:
                    order = place(session, symbol, "buy", quantity, "limit", float(candle.low))
                    bought = order.id if order else 0
            else:
                age += 1
                if age == 3 and not held:
                    answer_of(partial(session.cancel_order, bought))
                elif age > 5 and held:
                    for order in session.open_orders():
                        session.cancel_order(order.id)
                    place(session, symbol, "sell", held, "market")
        session.step()


def affordable(session: Session, symbol: str, cash: float, price: float) -> Decimal:
    if not cash:
        return Decimal(0)
    return session.affordable(symbol=symbol, cash=cash, type="limit", price=price)


def place(
    session: Session, symbol: str, side: str, quantity: Any, type: str, price: Any = None
) -> Order | None:
    try:
        return session.place_order(
            symbol=symbol, side=side, type=type, quantity=quantity, price=price
        )
    except SandboxError as refusal:
        if isinstance(refusal, InvalidParameter):
            raise
        return None


@FEWER
@given(cases())
def test_a_fill_between_is_seen_at_its_candle(case: Case) -> None:
    """Limit orders that fill or are cancelled, against an agent that looks at every step."""
    one = tuple(series for series in case.market if series.symbol == case.symbols[0])
    market, config = market_of(one), session_config(case.config)
    finest = min(series.interval for series in one)
    config.clock = Clock.between(config.start_time, config.end_time, finest)
    by_hand = Session(copy(config), market)
    try:
        make_by_hand(by_hand, case.symbols[0])
    except InvalidParameter:  # A quantity or an amount that rounds to zero.
        with pytest.raises(ProgramFailed):
            run(compile_strategy({"source": MAKER}), config, market)
        return
    finished = run(compile_strategy({"source": MAKER}), config, market)
    assert outcome(finished.session) == outcome(by_hand)


@FEWER
@given(cases(), st.sampled_from([CROSS, MAKER]), st.data())
def test_no_order_of_a_program_depends_on_what_comes_later(
    case: Case, source: str, data: st.DataObject
) -> None:
    config = session_config(case.config)
    config.clock = Clock.between(config.start_time, config.end_time, case.finest)
    strategy = compile_strategy({"source": source, "timeframe": finest_of_all(case)})
    now = data.draw(st.integers(case.config.start, case.config.end), label="now")
    other = data.draw(other_futures(case, now), label="other")
    finished = run_until_it_fails(strategy, config, market_of(case.market), now)
    assert finished == run_until_it_fails(strategy, config, market_of(other), now)


def run_until_it_fails(strategy: Any, config: SessionConfig, market: Market, now: int) -> object:
    try:
        return until(run(strategy, config, market), now)
    except ProgramFailed as failure:
        if failure.details["time"] > now:
            reject()  # What it ordered until then is gone with it.
        return failure.message
    except InvalidParameter as refusal:
        if refusal.details["field"] != "timeframe":
            raise
        reject()  # Its candles do not make the timeframe.


def noted(body: str, closes: list[float], steps: int, start: int = MINUTE, **options: Any) -> str:
    """Return the notes of a program that buys, and fails at the last candle with its notes."""
    source = f"def on_candle(ctx):\n{body}\n    if ctx.time == {start + (steps - 1) * MINUTE}:\n        fail(ctx.state)\n"
    with pytest.raises(ProgramFailed) as failed:
        run(
            compile_strategy({"source": source}),
            config(steps, start=start, **options),
            market_of(minutes(closes)),
        )
    return failed.value.message


def test_what_a_program_is_shown() -> None:
    body = (
        "    ctx.state[ctx.time // 60000] ="
        " (ctx.symbol, ctx.open, ctx.close, ctx.previous.close, ctx.position, ctx.cash,"
        " ctx.entry_price, len(ctx.fills), ctx.equity())\n"
        "    if ctx.position == 0: ctx.buy(quote=500)"
    )
    message = noted(body, [10, 20, 25, 30, 40, 40], 4)
    # The first candle has none before it; the second completes at minute 2.
    assert message == (
        'line 5, column 9: fail: {2: ("AAAUSDT", 10.0, 20.0, 10.0, 0.0, 1000.0, None, 0, 1000.0),'
        ' 3: ("AAAUSDT", 20.0, 25.0, 20.0, 25.0, 500.0, 20.0, 1, 1125.0),'
        ' 4: ("AAAUSDT", 25.0, 30.0, 25.0, 25.0, 500.0, 20.0, 0, 1250.0)}'
        " (candle complete at 1970-01-01T00:04:00Z)"
    )


def test_history_and_orders_as_a_program_sees_them() -> None:
    body = (
        "    if ctx.time == 120000: ctx.state['id'] = ctx.buy(3, type='limit', price=5)\n"
        "    ctx.state[ctx.time] = [(o.id, o.side, o.price, o.quantity) for o in ctx.orders()]\n"
        "    ctx.state['h'] = ctx.history('close', 3)\n"
        "    if ctx.time == 180000: ctx.state['c'] = (ctx.cancel(1), ctx.cancel(1))"
    )
    message = noted(body, [10, 20, 25, 30, 40, 40], 4)
    for part in (
        '"id": 1',
        '120000: [(1, "buy", 5.0, 3.0)]',
        '180000: [(1, "buy", 5.0, 3.0)]',
        '"c": (True, False)',
        "240000: []",
        '"h": [20.0, 25.0, 30.0]',
    ):
        assert part in message


def test_on_candle_is_called_once_every_indicator_has_two_values() -> None:
    source = (
        'indicators = {"b": {"kind": "bollinger", "period": 3}}\n'
        "def on_candle(ctx): fail(ctx.time // 60000, ctx.b.middle, ctx.previous.b.middle)\n"
    )
    market = market_of(minutes([1, 2, 3, 4, 5, 6, 7, 8]))
    with pytest.raises(ProgramFailed, match=r"fail: 4 3.0 2.0"):
        run(compile_strategy({"source": source}), config(6), market)
    # History from before the session's start counts.
    with pytest.raises(ProgramFailed, match=r"fail: 6 5.0 4.0"):
        run(compile_strategy({"source": source}), config(2, start=6 * MINUTE), market)


def test_candles_in_many_chunks_are_all_shown_once() -> None:
    source = (
        "def on_candle(ctx):\n"
        '    ctx.state["sum"] = ctx.state.get("sum", 0) + ctx.time // 60000\n'
        f"    if ctx.time == {(3 * CHUNK + 5) * MINUTE}: fail(ctx.state)\n"
    )
    count = 3 * CHUNK + 7
    market = market_of(minutes([1.0] * count))
    with pytest.raises(ProgramFailed) as failed:
        run(compile_strategy({"source": source}), config(count - 1), market)
    # The first candle, that of minute 1, is only the previous one.
    assert f'"sum": {sum(range(2, 3 * CHUNK + 6))}' in failed.value.message
    assert failed.value.details["time"] == (3 * CHUNK + 5) * MINUTE


@pytest.mark.parametrize(
    ("source", "line", "column", "text"),
    [
        ("def on_candle(ctx:\n    pass\n", 2, 5, "unexpected keyword"),
        ("x = 1\nimport os\n", 2, 1, "reserved keyword `import`"),
        ("def on_candle(ctx):\n    while True:\n        pass\n", 2, 5, "keyword `while`"),
        ("load('x', 'y')\ndef on_candle(ctx): pass\n", 1, 1, "`load` is not allowed"),
        ("def on_candle(ctx):\n\tpass\n", 1, 20, "tabs are not allowed"),
        ("class A: pass\n", 1, 1, "reserved keyword `class`"),
        ("def candle(ctx): pass\n", 1, 1, "must define on_candle"),
        ("x = 'on_candle'\n", 1, 1, "must define on_candle"),
        ("", 1, 1, "must define on_candle"),
        ("\x00", 1, 1, "invalid input"),
    ],
)
def test_what_does_not_parse_is_refused_with_line_and_column(
    source: str, line: int, column: int, text: str
) -> None:
    with pytest.raises(InvalidParameter) as refused:
        compile_strategy({"source": source})
    assert refused.value.details == {"field": "source", "line": line, "column": column}
    assert refused.value.message.startswith(f"source: line {line}, column {column}: ")
    assert text in refused.value.message


def test_nothing_is_evaluated_when_a_program_is_compiled() -> None:
    compile_strategy({"source": "fail('no')\ndef on_candle(ctx): pass"})
    endless = "x = [0 for _ in range(1 << 30)]\ndef on_candle(ctx): pass"
    assert compile_strategy({"source": endless}).kind == "source"


@pytest.mark.parametrize(
    ("source", "line", "text"),
    [
        ("def on_candle(ctx):\n    x = 1\n    return x // 0\n", 3, "division by zero"),
        (
            (
                "def f(x):\n    y = 1\n    for _ in range(3):\n        y += x.nothing\n    return y\n"
                "def on_candle(ctx):\n    f(ctx)\n"
            ),
            4,
            "nothing",
        ),
        ("def on_candle(ctx):\n    on_candle(ctx)\n", 2, "stack overflow"),
        ("n = []\ndef on_candle(ctx):\n    n.append(1)\n", 3, "Immutable"),
        ("def on_candle(ctx):\n    ctx.close = 1\n", 2, "`.close=` not supported"),
        ("def on_candle(ctx):\n    ctx.buy()\n", 2, "one of equity_share, quote and quantity"),
        ("def on_candle(ctx):\n    ctx.buy(1, quote=1)\n", 2, "one of equity_share, quote"),
        ("def on_candle(ctx):\n    ctx.buy(-1)\n", 2, "quantity"),
        ("def on_candle(ctx):\n    ctx.buy(float('nan'))\n", 2, "buy.quantity: must be a finite"),
        ("def on_candle(ctx):\n    ctx.sell(float('nan'))\n", 2, "sell.quantity: must be a finite"),
        (
            "def on_candle(ctx):\n    ctx.buy(quote=float('nan'))\n",
            2,
            "buy.quote: must be a finite",
        ),
        ("def on_candle(ctx):\n    ctx.buy(1, pirce=3)\n", 2, "buy.pirce: buy takes"),
        ("def on_candle(ctx):\n    ctx.buy(1, type='limt')\n", 2, "type: must be one of"),
        ("def on_candle(ctx):\n    ctx.cancel(7)\n", 2, "the session has no order 7"),
        ("def on_candle(ctx):\n    ctx.history('clse', 7)\n", 2, "'clse' is not one of"),
        (
            "def on_candle(ctx):\n    ctx.history('close', 10**9)\n".replace("10**9", "1 << 40"),
            2,
            "count",
        ),
        (
            "def on_candle(ctx):\n    ctx.buy(1, type='limit', price=1, stop_loss={'percent': 1})\n",
            2,
            "is in percent from the fill of a buy",
        ),
        (
            "def on_candle(ctx):\n    ctx.buy(1, stop_loss={'percent': 150})\n",
            2,
            "trigger_price: must be positive",
        ),
        ("def on_candle(ctx):\n    ctx.buy(1, stop_loss={'pct': 1})\n", 2, "stop_loss.p"),
        ("def on_candle(ctx, more): pass\n", None, "Missing"),
        ("on_candle = 1\n", None, "`call()` not supported on type `int`"),
    ],
)
def test_a_program_that_fails_says_at_which_line_and_candle(
    source: str, line: int | None, text: str
) -> None:
    with pytest.raises(ProgramFailed) as failed:
        run(compile_strategy({"source": source}), config(4), market_of(minutes([1.0] * 8)))
    message = failed.value.message
    assert text in message
    assert message.endswith("(candle complete at 1970-01-01T00:02:00Z)")
    assert (failed.value.details["line"], failed.value.details["time"]) == (line, 2 * MINUTE)


@pytest.mark.parametrize(
    ("source", "line", "text"),
    [
        ("def on_candle(ctx):\n    print('x')\n", 2, "`print` not found"),
        ("def on_candle(ctx):\n    open('/etc/passwd')\n", 2, "`open` not found"),
        ("fail('at once')\ndef on_candle(ctx): pass\n", 1, "at once"),
        ("indicators = {'close': {'kind': 'sma'}}\ndef on_candle(ctx): pass\n", None, "close"),
        ("indicators = {'cash': {'kind': 'sma'}}\ndef on_candle(ctx): pass\n", None, "cash"),
        (
            "indicators = {'a': {'kind': 'sam'}}\ndef on_candle(ctx): pass\n",
            None,
            "indicators.a.kind",
        ),
        ("indicators = {'if': {'kind': 'sma'}}\ndef on_candle(ctx): pass\n", None, "indicators.if"),
        ("indicators = 1\ndef on_candle(ctx): pass\n", None, "indicators: must be an object"),
        ("x = '''\ndef on_candle(ctx): pass\n'''", None, "must define on_candle"),
    ],
)
def test_a_program_that_fails_before_the_first_candle_names_none(
    source: str, line: int | None, text: str
) -> None:
    with pytest.raises(ProgramFailed) as failed:
        run(compile_strategy({"source": source}), config(4), market_of(minutes([1.0] * 8)))
    assert text in failed.value.message
    assert "candle complete" not in failed.value.message
    assert (failed.value.details["line"], failed.value.details["time"]) == (line, None)


def test_a_refused_order_is_none_and_the_program_goes_on() -> None:
    source = (
        "def on_candle(ctx):\n"
        "    if ctx.buy(quote=5000) == None and ctx.sell() == None: ctx.buy(quote=10)\n"
    )
    finished = run(compile_strategy({"source": source}), config(3), market_of(minutes([1.0] * 8)))
    assert [(s.action, s.refused) for s in finished.signals] == [
        ("buy", "INSUFFICIENT_BALANCE"),
        ("sell", "INSUFFICIENT_BALANCE"),
        ("buy", None),
        ("buy", "INSUFFICIENT_BALANCE"),
        ("sell", None),
    ]


def test_every_term_of_an_order_is_passed_on() -> None:
    source = (
        "def on_candle(ctx):\n"
        "    if ctx.time > 120000: return\n"
        "    ctx.buy(quote=100, type='limit', price=8, oco_group='g', expires_at=ctx.time + 60000)\n"
        "    ctx.buy(2, type='stop_loss', trigger_price=12.5, oco_group='g')\n"
        "    ctx.buy(equity_share=0.1, stop_loss=9, take_profit={'percent': 20})\n"
        "    ctx.sell(1.5, type='limit', price='11.25')\n"
    )
    finished = run(compile_strategy({"source": source}), config(5), market_of(minutes([10.0] * 8)))
    orders = [
        (
            o.side,
            o.type,
            f"{o.quantity.normalize():f}",
            o.trigger if o.type != "market" else None,
            o.oco_group,
            o.status,
            o.reason,
        )
        for o in finished.session.orders
    ]
    assert orders == [
        ("buy", "limit", "12.5", 8, "g", "expired", None),
        ("buy", "stop_loss", "2", Decimal("12.5"), "g", "cancelled", "session_end"),
        ("buy", "market", "10", None, None, "filled", None),
        ("sell", "stop_loss", "10", 9, "guard-3", "cancelled", "session_end"),
        ("sell", "take_profit", "10", 12, "guard-3", "cancelled", "session_end"),
        ("sell", "limit", "1.5", Decimal("11.25"), None, "cancelled", "session_end"),
    ]


def test_programs_place_brackets_and_trailing_stops() -> None:
    source = (
        "def on_candle(ctx):\n"
        "    if ctx.time > 120000: return\n"
        "    ctx.buy(2, type='limit', price=8, stop_loss=7, take_profit=9)\n"
        "    ctx.buy(3, trailing_stop={'percent': 10})\n"
        "    ctx.sell(1, type='trailing_stop', trail_amount=5, activation_price=11)\n"
    )
    prices = [10.0, 10.0, 10.0, 8.0, 9.5, 9.5, 9.5]
    finished = run(compile_strategy({"source": source}), config(5), market_of(minutes(prices)))
    orders = [(o.side, o.type, o.status, o.reason) for o in finished.session.orders]
    assert orders == [
        ("buy", "limit", "filled", None),
        ("buy", "market", "filled", None),
        ("sell", "trailing_stop", "filled", None),
        ("sell", "trailing_stop", "cancelled", "position_closed"),
        ("sell", "stop_loss", "cancelled", "oco"),
        ("sell", "take_profit", "filled", None),
    ]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        ("ctx.buy(1, type='limit', price=8, stop_loss={'percent': 1})", "stop_loss"),
        ("ctx.buy(1, type='limit', price=8, trailing_stop={'percent': 1})", "trailing_stop"),
        ("ctx.buy(1, trailing_stop=9)", "trailing_stop"),
    ],
)
def test_guards_that_an_entry_cannot_have_are_refused_by_name(call: str, field: str) -> None:
    source = f"def on_candle(ctx):\n    {call}\n"
    market = market_of(minutes([10.0] * 5))
    with pytest.raises(ProgramFailed, match=field):
        run(compile_strategy({"source": source}), config(2), market)


def test_each_symbol_has_its_own_state_and_candles() -> None:
    source = (
        "def on_candle(ctx):\n"
        "    ctx.state[ctx.symbol] = True\n"
        "    if len(ctx.state) > 1: fail('shared')\n"
        "    ctx.buy(equity_share=0.5)\n"
    )
    market = market_of(minutes([10.0] * 8) + minutes([20.0] * 8, "BBBUSDT"))
    finished = run(compile_strategy({"source": source}), config(2), market)
    assert ordered(finished) == [(2, "buy", "25", "10"), (2, "buy", "12.5", "20")]


def test_a_program_that_never_comes_to_an_end_is_stopped_when_it_is_cancelled() -> None:
    endless = "def on_candle(ctx):\n    for _ in range(1 << 30): pass\n"
    polls = 0

    def cancelled() -> bool:
        nonlocal polls
        polls += 1
        return polls > 5

    with pytest.raises(Cancelled):
        run(
            compile_strategy({"source": endless}),
            config(3),
            market_of(minutes([1.0] * 8)),
            cancelled=cancelled,
        )


@pytest.mark.parametrize(
    "source",
    [
        "x = " + "(" * 30_000 + ")" * 30_000,
        "x = " + "[" * 60_000,
        "x = " + "-" * 60_000 + "1",
        "x = " + "not " * 15_000 + "1",
        "x = " + "1+" * 30_000 + "1",
        "x = " + "lambda: " * 8_000 + "1",
        "x = " + "a." * 30_000 + "a",
        "x = " + "f(" * 20_000 + ")" * 20_000,
        "x = " + "1 if 1 else " * 5_000 + "1",
        "".join(" " * k + "if 1:\n" for k in range(350)) + " " * 350 + "pass",
        "".join(f"{' ' * k}def f{k}():\n" for k in range(340)) + " " * 340 + "pass",
        "x = '" + "a" * 60_000,
        "\n" * 65_000,
    ],
)
def test_hostile_source_is_refused_and_harms_nothing(source: str) -> None:
    """Within the length limit; a program that parses is refused, as it has no on_candle."""
    with pytest.raises(InvalidParameter, match="source"):
        compile_strategy({"source": source})


def test_a_source_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidParameter, match=r"source: is longer than 65536 characters"):
        compile_strategy({"source": "#" * 1_000_000 + "\ndef on_candle(ctx): pass"})
    with pytest.raises(InvalidParameter, match="source"):
        compile_strategy({"source": "\ud800"})


def test_nothing_of_a_run_is_kept_when_it_is_over() -> None:
    finished = run(compile_strategy({"source": MAKER}), config(6), market_of(minutes([1.0] * 8)))
    session = weakref.ref(finished.session)
    del finished
    gc.collect()
    assert session() is None
