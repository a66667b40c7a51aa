"""The exchange in process, against the plain per-candle loop of the tests' oracle."""

import gc
import tracemalloc
from collections.abc import Callable
from decimal import Decimal

from candlestep.sandbox import Candles, Market, RiskProfile, Session, SessionConfig
from tests.benchmarks.market import END, MINUTE, START, SYMBOLS, YEAR, synthetic_year
from tests.benchmarks.table import Row, seconds
from tests.support import oracle

NAIVE_CANDLES = 3_000
SESSIONS = 1_000
NUMBERS = ("open", "high", "low", "close", "volume")


def rows() -> list[Row]:
    """Return the in-process rows of the speed table."""
    candles = [synthetic_year(symbol) for symbol in SYMBOLS]
    market = Market(candles)
    session(market, pending=1).results()
    return [
        *_batch_steps(market, candles),
        _metrics(market, candles),
        _single_steps(market, candles),
        _windows(market),
        _market_orders(market, candles),
        _start(candles),
        *_many_sessions(market),
    ]


def config(risk: RiskProfile | None = None) -> SessionConfig:
    """Return the configuration of a session over the year."""
    # One minute longer than the year, so that a step over the year does not end the session.
    return SessionConfig(
        start_time=START,
        end_time=END + MINUTE,
        starting_balance=1_000_000,
        allow_gaps=True,
        risk=risk,
    )


def session(market: Market, pending: int = 0) -> Session:
    """Return a session over the year with ``pending`` orders on both symbols that never fill."""
    new = Session(config(), market)
    for number in range(pending):
        symbol = list(SYMBOLS)[number % 2]
        price = Decimal(1000 + number) / 100
        new.place_order(symbol=symbol, side="buy", type="limit", quantity="0.01", price=price)
    return new


def naive(candles: list[Candles], pending: int) -> oracle.Oracle:
    """Return the oracle over the first candles of the year, with the orders of ``session``."""
    plain = oracle.Oracle(
        (
            (series.symbol, MINUTE, *(column[row].item() for column in columns))
            for series in candles
            for columns in [(series.open_time, *(getattr(series, name) for name in NUMBERS))]
            for row in range(NAIVE_CANDLES)
        ),
        oracle.Config(START, END, MINUTE, Decimal(1_000_000)),
    )
    for number in range(pending):
        plain.place_order(
            symbol=list(SYMBOLS)[number % 2],
            side="buy",
            type="limit",
            quantity=Decimal("0.01"),
            price=Decimal(1000 + number) / 100,
        )
    return plain


def _batch_steps(market: Market, candles: list[Candles]) -> list[Row]:
    def year(pending: int) -> float:
        sessions = iter([session(market, pending) for _ in range(7)])
        return seconds(lambda: next(sessions).step(YEAR), repeat=7)

    few, many = year(10), year(1_000)
    plain = naive(candles, 10)
    loop = seconds(lambda: plain.step(NAIVE_CANDLES), repeat=1) / NAIVE_CANDLES * YEAR
    return [
        Row(
            "batch step of a year (525,600 candles), 2 symbols, 10 pending orders",
            f"{few * 1e3:.3f} ms",
            f"{loop:.0f} s, a loop over every candle",
            f"{loop / few:,.0f} ×",
            "≥ 1,000 ×, ≤ 0.3 ms",
            loop / few >= 1_000 and few <= 0.3e-3,
        ),
        Row(
            "the same with 1,000 pending orders",
            f"{many * 1e3:.3f} ms",
            f"{few * 1e3:.3f} ms with 10",
            f"{many / few:.2f} ×",
            "≤ 2 ×",
            many <= 2 * few,
        ),
        _trailing_stop(market),
    ]


def _trailing_stop(market: Market) -> Row:
    def guarded() -> Session:
        new = session(market)
        new.place_order(symbol="BTCUSDT", side="buy", quantity=1)
        return new

    sessions = iter([guarded() for _ in range(7)])

    def year() -> None:
        trading = next(sessions)
        stop = trading.place_order(
            symbol="BTCUSDT", side="sell", type="trailing_stop", quantity=1, trail_percent=50
        )
        trading.step(YEAR)
        assert trading.order(stop.id).status == "pending"

    ours = seconds(year, repeat=7)
    return Row(
        "placing a trailing stop, and a batch step of a year in which it never triggers",
        f"{ours * 1e3:.3f} ms",
        "",
        "",
        "≤ 5 ms",
        ours <= 5e-3,
    )


def _metrics(market: Market, candles: list[Candles]) -> Row:
    def traded_session() -> Session:
        session = Session(config(), market)
        buy_and_sell(session, fills=1_000)
        session.step(YEAR)
        return session

    sessions = [traded_session() for _ in range(5)]
    remaining = iter(sessions)

    def compute_all() -> None:
        traded = next(remaining)
        traded.results()
        traded.snapshots()

    ours = seconds(compute_all)
    assert sessions[0].results().total_trades == 1_000
    plain = naive(candles, 0)
    for symbol in SYMBOLS:
        plain.place_order(symbol=symbol, side="buy", type="market", quantity=Decimal(1))
    loop = seconds(lambda: (plain.step(NAIVE_CANDLES - 1), plain.drawdown()), repeat=1)
    loop = loop / NAIVE_CANDLES * YEAR
    return Row(
        "metrics of a year, 2 symbols held, 1,000 fills: exact drawdown, curve, everything",
        f"{ours * 1e3:.1f} ms",
        f"{loop:.0f} s, a loop over every candle",
        f"{loop / ours:,.0f} ×",
        "≤ 25 ms",
        ours <= 25e-3,
    )


def buy_and_sell(session: Session, fills: int) -> None:
    """Hold both symbols for the year, trading them in turn."""
    for number in range(fills):
        if number and number % 2 == 0:
            session.step(2 * YEAR // fills - 1)
        session.place_order(
            symbol=list(SYMBOLS)[number % 2],
            side="sell" if number % 4 >= 2 else "buy",
            type="market",
            quantity="0.01" if number >= 2 else "1",
        )


def _single_steps(market: Market, candles: list[Candles]) -> Row:
    steps = 50_000
    stepped = session(market, pending=100)
    stepped.place_order(symbol="BTCUSDT", side="buy", type="market", quantity="0.1")

    def step_and_read() -> None:
        for _ in range(steps):
            step = stepped.step()
            _ = step.prices, step.portfolio.total_equity

    ours = steps / seconds(step_and_read)
    plain = naive(candles, 100)
    plain.place_order(symbol="BTCUSDT", side="buy", type="market", quantity=Decimal("0.1"))

    def naive_step_and_read() -> None:
        for _ in range(500):
            plain.step()
            _ = plain.prices(), plain.portfolio().total_equity

    loop = 500 / seconds(naive_step_and_read, repeat=3)
    return Row(
        "single step, 2 symbols, 100 pending orders, a position, prices and portfolio read",
        f"{ours:,.0f} steps/s",
        f"{loop:,.0f} steps/s, a loop over every candle",
        f"{ours / loop:,.0f} ×",
        "≥ 350,000 steps/s",
        ours >= 350_000,
    )


def _windows(market: Market) -> Row:
    reader = session(market)
    reader.step(5_000)

    def windows() -> None:
        for _ in range(20_000):
            reader.window("BTCUSDT", 32)

    def decimals() -> None:
        for _ in range(200):
            reader.candles("BTCUSDT", limit=32)

    ours, exact = seconds(windows) / 20_000, seconds(decimals, repeat=3) / 200
    return Row(
        "the last 32 minutes as an array of floats, 5 columns",
        f"{ours * 1e6:.1f} µs",
        f"{exact * 1e6:,.0f} µs, the same candles as decimals",
        f"{exact / ours:,.0f} ×",
        "≤ 20 µs",
        ours <= 20e-6,
    )


def _market_orders(market: Market, candles: list[Candles]) -> Row:
    risk = RiskProfile(
        max_order_size_pct=Decimal(10),
        max_position_size_pct=Decimal(50),
        daily_loss_limit_pct=Decimal(50),
    )

    def orders_per_second(
        place: Callable[..., object], step: Callable[[int], object], orders: int
    ) -> float:
        def orders_and_steps() -> None:
            for number in range(orders):
                side = "sell" if number % 2 else "buy"
                place(symbol="BTCUSDT", side=side, type="market", quantity=Decimal("0.01"))
                if number % 10 == 0:
                    step(1)

        return orders / seconds(orders_and_steps)

    trading = Session(config(risk), market)
    trading.step(100)
    ours = orders_per_second(trading.place_order, trading.step, 10_000)
    plain = naive(candles, 0)
    loop = orders_per_second(plain.place_order, plain.step, 500)
    return Row(
        "market order, risk profile on (a step every ten orders)",
        f"{ours:,.0f} orders/s",
        f"{loop:,.0f} orders/s, the oracle",
        f"{ours / loop:,.1f} ×",
        "≥ 50,000 orders/s",
        ours >= 50_000,
    )


def _start(candles: list[Candles]) -> Row:
    def columns(series: Candles) -> dict[str, object]:
        return {name: getattr(series, name) for name in ("open_time", *NUMBERS)}

    def first_time() -> None:
        market = Market(
            Candles(symbol=series.symbol, interval="1m", **columns(series))  # type: ignore[arg-type]
            for series in candles
        )
        session(market, pending=2).step()

    ours = seconds(first_time)
    market = Market(candles)
    again = seconds(lambda: session(market, pending=2).step())
    return Row(
        "a year of 2 symbols checked and indexed, first order and step · again",
        f"{ours * 1e3:.0f} ms · {again * 1e3:.2f} ms",
        "",
        "",
        "≤ 500 ms · ≤ 10 ms",
        ours <= 0.5 and again <= 10e-3,
    )


def _many_sessions(market: Market) -> list[Row]:
    steps = 50

    def stepping(sessions: list[Session]) -> Callable[[], None]:
        def work() -> None:
            for _ in range(steps * SESSIONS // len(sessions)):
                for session in sessions:
                    session.step()

        return work

    tracemalloc.start()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    many = [Session(config(), market) for _ in range(SESSIONS)]
    memory = (tracemalloc.get_traced_memory()[0] - before) / SESSIONS / 1024
    tracemalloc.stop()
    alone = steps * SESSIONS / seconds(stepping([Session(config(), market)]))
    in_turn = steps * SESSIONS / seconds(stepping(many))
    return [
        Row(
            "memory of one more fresh session over the same data",
            f"{memory:.1f} KiB",
            "",
            "",
            "≤ 16 KiB",
            memory <= 16,
        ),
        Row(
            "1,000 open sessions stepping in turn, in process",
            f"{in_turn:,.0f} steps/s",
            f"{alone:,.0f} steps/s of one",
            f"{in_turn / alone:.2f} ×",
            "≥ 0.8 ×",
            in_turn >= 0.8 * alone,
        ),
    ]
