"""Weeks of minutes through the whole product: imported, stepped by the hour over HTTP, recomputed.

The server's answers are held against a computation of their own, from the trades and the rows of
the file alone: when each order filled, at what price, and what the account was worth afterwards.
"""

import csv
import gzip
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from candlestep.data.imports.importer import import_file
from candlestep.data.imports.sample import sample_market
from candlestep.data.store.database import Store
from candlestep.sandbox import format_time, parse_time
from tests.support.api_client import BACKTEST, Api, sample_home
from tests.support.candle_files import real_file
from tests.support.server_process import running

MINUTE = 60_000
HOUR = 60 * MINUTE
BALANCE = Decimal(10_000)
SYMBOLS = ("BTCUSDT", "ETHUSDT")
LEAST_SLIPPAGE, MOST_SLIPPAGE = Decimal("0.0001"), Decimal("0.1")


class Candle(NamedTuple):
    """One row of the file, with its numbers exact."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


Candles = dict[int, Candle]
"""The candles of one symbol by open time in ms, one for every minute."""


class Run(NamedTuple):
    """The server's answers about a session that has ended, and the candles that it ran on."""

    market: dict[str, Candles]
    start: int
    end: int
    steps: list[dict[str, Any]]
    results: dict[str, Any]
    orders: list[dict[str, Any]]
    trades: list[dict[str, Any]]
    snapshots: list[dict[str, Any]]


def rounded(value: Decimal, places: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def read_candles(path: Path) -> Candles:
    """Read a file of one symbol's minutes."""
    with gzip.open(path, "rt") as file:
        candles = {
            parse_time(row["timestamp"]): Candle(
                *(Decimal(row[name]) for name in ("open", "high", "low", "close", "volume"))
            )
            for row in csv.DictReader(file)
        }
    assert max(candles) - min(candles) == (len(candles) - 1) * MINUTE, "a file without gaps"
    return candles


def sample_candles() -> dict[str, Candles]:
    """Return the sample market by symbol."""
    market = {}
    for symbol, columns in sample_market().items():
        numbers = zip(*(column.tolist() for column in columns.numbers()), strict=True)
        rows = zip(columns.open_time.tolist(), numbers, strict=True)
        market[symbol] = {
            time: Candle(*(Decimal(repr(number)) for number in row)) for time, row in rows
        }
    return market


def trade(api: Api, session_id: str, hour: int, step: dict[str, Any]) -> None:
    """Place orders of every type by the hour: an entry with exits, limits below it, and the exit."""
    held = {
        position["symbol"]: Decimal(position["quantity"])
        for position in step["portfolio"]["positions"]
    }
    for number, symbol in enumerate(SYMBOLS):
        price = Decimal(step["prices"][symbol])
        phase = (hour + 3 * number) % 24
        size = rounded(BALANCE / 16 / price, 5)

        def order(
            side: str,
            type: str,
            quantity: Decimal,
            price: Decimal | None = None,
            *,
            group: str | None = None,
            symbol: str = symbol,
        ) -> None:
            name = "price" if type == "limit" else "trigger_price"
            options: dict[str, Any] = {} if price is None else {name: f"{price:.2f}"}
            options |= {} if group is None else {"oco_group": group}
            api.order(
                session_id, symbol=symbol, side=side, type=type, quantity=str(quantity), **options
            )

        if phase == 0:
            order("buy", "market", size * 2)
            group = f"{symbol}-{hour}"
            order("sell", "stop_loss", size, price * Decimal("0.985"), group=group)
            order("sell", "take_profit", size, price * Decimal("1.012"), group=group)
            order("sell", "stop_loss", size * 2, price * Decimal("0.97"))
        if phase == 2:
            for rung in ("0.998", "0.995", "0.99"):
                order("buy", "limit", size, price * Decimal(rung))
            order("buy", "stop_loss", size / 2, price * Decimal("1.006"))
            order("buy", "take_profit", size / 2, price * Decimal("0.993"))
            order("buy", "limit", size / 4, price * Decimal("1.001"))
        if phase == 8 and held.get(symbol):
            order("sell", "limit", rounded(held[symbol] / 2, 5), price * Decimal("1.004"))
        if phase == 20:
            for pending in api.read(session_id, "trade/orders/open", symbol=symbol)["orders"]:
                if pending["side"] == "buy" or pending["type"] == "limit":
                    api.call("DELETE", f"{BACKTEST}/{session_id}/trade/order/{pending['id']}")
            if held.get(symbol):
                order("sell", "market", held[symbol])


def run_session(home: Path, market: dict[str, Candles], start: int, end: int) -> Run:
    """Trade a session by the hour to its end, and read all that the server answers about it."""
    with running(home) as server, server.client() as client:
        api = Api(client)
        session_id = api.started(
            format_time(start), format_time(end), pairs=list(SYMBOLS), strategy_label="all types"
        )
        steps = [api.step(session_id, 60)]
        while not steps[-1]["is_complete"]:
            trade(api, session_id, len(steps), steps[-1])
            steps.append(api.step(session_id, 60))
        orders: list[dict[str, Any]] = []
        while page := api.read(session_id, "trade/orders", limit=500, offset=len(orders))["orders"]:
            orders += page
        trades: list[dict[str, Any]] = []
        while page := api.read(session_id, "results/trades", limit=400, offset=len(trades))[
            "trades"
        ]:
            trades += page
        return Run(
            market,
            start,
            end,
            steps,
            api.read(session_id, "results"),
            orders,
            trades,
            api.read(session_id, "results/equity-curve")["snapshots"],
        )


@pytest.fixture(scope="module", params=["sample", "real"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    home = tmp_path_factory.mktemp("home")
    if request.param == "sample":
        sample_home(home)
        start, end = "2025-01-03T00:00:00Z", "2025-01-23T12:00:00Z"
        yield run_session(home, sample_candles(), parse_time(start), parse_time(end))
        return
    files = {symbol: real_file(f"{symbol}-1m-2024-10.csv.gz") for symbol in SYMBOLS}
    store = Store.open(home)
    for file in files.values():
        import_file(store, file)
    store.close()
    market = {symbol: read_candles(file) for symbol, file in files.items()}
    start, end = "2024-10-01T05:00:00Z", "2024-11-04T20:00:00Z"
    yield run_session(home, market, parse_time(start), parse_time(end))


def decimals(value: dict[str, Any], *names: str) -> tuple[Decimal, ...]:
    return tuple(Decimal(value[name]) for name in names)


def slippage(candles: Candles, quantity: Decimal, before: int) -> Decimal:
    """Return ``clamp(0.1 x quantity / average volume, 0.01%, 10%)`` over the last 60 candles."""
    volumes = [candles[time].volume for time in range(before - 60 * MINUTE, before, MINUTE)]
    share = rounded(Decimal("0.1") * quantity * 60 / sum(volumes), 16)
    return min(max(share, LEAST_SLIPPAGE), MOST_SLIPPAGE)


def waits_for_fall(order: dict[str, Any]) -> bool:
    return (order["side"], order["type"]) in (
        ("buy", "limit"),
        ("sell", "stop_loss"),
        ("buy", "take_profit"),
    )


def trigger_price(order: dict[str, Any]) -> Decimal:
    return Decimal(order["price"] if order["type"] == "limit" else order["trigger_price"])


def is_touched(order: dict[str, Any], candle: Candle) -> bool:
    if waits_for_fall(order):
        return candle.low <= trigger_price(order)
    return candle.high >= trigger_price(order)


def expected_price(order: dict[str, Any], fill: dict[str, Any], candles: Candles) -> Decimal:
    """Return the price that the rules give an order that filled when it did."""
    placed, filled = parse_time(order["created_at"]), parse_time(order["filled_at"])
    is_buy = order["side"] == "buy"
    quantity = Decimal(fill["quantity"])
    if placed == filled:
        slip = slippage(candles, quantity, filled)
        close = candles[filled - MINUTE].close
        price = rounded(close * (1 + slip if is_buy else 1 - slip), 16)
        assert Decimal(fill["slippage_pct"]) == slip * 100 or order["type"] == "limit"
        if order["type"] == "limit":
            limit = trigger_price(order)
            return min(price, limit) if is_buy else max(price, limit)
        return price
    candle = candles[filled - MINUTE]
    trigger = trigger_price(order)
    is_beyond = candle.open < trigger if waits_for_fall(order) else candle.open > trigger
    base = candle.open if is_beyond else trigger
    if order["type"] == "limit":
        assert Decimal(fill["slippage_pct"]) == 0
        return base
    slip = slippage(candles, quantity, filled - MINUTE)
    assert Decimal(fill["slippage_pct"]) == slip * 100
    return rounded(base * (1 + slip if is_buy else 1 - slip), 16)


def test_every_type_of_order_filled(run: Run) -> None:
    assert run.results["status"] == "completed"
    assert len(run.steps) * HOUR == run.end - run.start
    kinds = {(trade["side"], trade["type"]) for trade in run.trades}
    assert kinds == {
        ("buy", "market"), ("sell", "market"), ("buy", "limit"), ("sell", "limit"),
        ("buy", "stop_loss"), ("sell", "stop_loss"), ("buy", "take_profit"),
        ("sell", "take_profit"),
    }  # fmt: skip
    assert {"requested", "oco", "position_closed"} <= {order["reason"] for order in run.orders}
    assert len(run.trades) > 100


def test_prices_are_the_closes_of_the_file(run: Run) -> None:
    for number, step in enumerate(run.steps, 1):
        time = run.start + number * HOUR
        assert step["virtual_time"] == format_time(time)
        prices = {symbol: Decimal(price) for symbol, price in step["prices"].items()}
        assert prices == {
            symbol: candles[time - MINUTE].close for symbol, candles in run.market.items()
        }


def test_orders_fill_at_the_first_candle_that_reaches_them(run: Run) -> None:
    for order in run.orders:
        if order["type"] == "market":
            assert order["filled_at"] == order["created_at"]
            continue
        placed, closed = parse_time(order["created_at"]), parse_time(order["closed_at"])
        candles = run.market[order["symbol"]]
        if closed == placed:
            continue
        untouched = range(placed, closed - MINUTE, MINUTE)
        assert not any(is_touched(order, candles[time]) for time in untouched), order
        last = candles[closed - MINUTE]
        if order["status"] in ("filled", "rejected"):
            assert is_touched(order, last), order
        elif order["reason"] in ("requested", "session_end"):
            assert not is_touched(order, last), order


def test_each_fill_has_the_price_that_the_rules_give_it(run: Run) -> None:
    orders = {order["order_id"]: order for order in run.orders}
    assert [trade["id"] for trade in run.trades] == list(range(1, len(run.trades) + 1))
    for trade in run.trades:
        order = orders[trade["order_id"]]
        assert trade["simulated_at"] == order["filled_at"]
        price, quantity, amount, fee = decimals(trade, "price", "quantity", "quote_amount", "fee")
        assert price == expected_price(order, trade, run.market[trade["symbol"]]), (order, trade)
        assert amount == rounded(price * quantity, 8)
        assert fee == rounded(amount / 1000, 8)
        assert quantity <= Decimal(order["quantity"])
        assert decimals(order, "executed_price", "executed_qty", "fee") == (price, quantity, fee)


class Ledger:
    """An account, computed from the trades alone."""

    def __init__(self) -> None:
        self.cash = BALANCE
        self.quantity = dict.fromkeys(SYMBOLS, Decimal(0))
        self.cost = dict.fromkeys(SYMBOLS, Decimal(0))
        self.realized = Decimal(0)

    def book(self, trade: dict[str, Any]) -> Decimal | None:
        """Book a trade and return the profit that a sale realizes."""
        symbol = trade["symbol"]
        quantity, amount, fee = decimals(trade, "quantity", "quote_amount", "fee")
        if trade["side"] == "buy":
            self.cash -= amount + fee
            self.quantity[symbol] += quantity
            self.cost[symbol] += amount + fee
            return None
        cost = rounded(self.cost[symbol] * quantity / self.quantity[symbol], 8)
        self.cash += amount - fee
        self.quantity[symbol] -= quantity
        self.cost[symbol] -= cost
        self.realized += amount - fee - cost
        return amount - fee - cost

    def value(self, market: dict[str, Candles], time: int) -> Decimal:
        """Return the value of the holdings at the closes of the candles that complete at ``time``."""
        values = (
            rounded(held * market[symbol][time - MINUTE].close, 8)
            for symbol, held in self.quantity.items()
        )
        return sum(values, Decimal(0))


def test_the_ledger_adds_up_to_the_final_equity(run: Run) -> None:
    ledger = Ledger()
    fees = Decimal(0)
    for trade in run.trades:
        realized = ledger.book(trade)
        assert trade["realized_pnl"] is None if realized is None else True
        assert realized is None or Decimal(trade["realized_pnl"]) == realized
        assert ledger.cash >= 0
        assert min(ledger.quantity.values()) >= 0
        fees += Decimal(trade["fee"])
    equity = ledger.cash + ledger.value(run.market, run.end)
    summary = run.results["summary"]
    assert Decimal(summary["final_equity"]) == equity
    assert Decimal(summary["total_pnl"]) == equity - BALANCE
    assert Decimal(summary["total_fees"]) == fees
    assert summary["total_trades"] == len(run.trades)
    portfolio = run.steps[-1]["portfolio"]
    assert decimals(portfolio, "total_equity", "available_cash", "locked_cash") == (
        equity,
        ledger.cash,
        0,
    )
    assert Decimal(portfolio["realized_pnl"]) == ledger.realized


def test_the_equity_curve_is_what_the_trades_and_closes_make(run: Run) -> None:
    ledger = Ledger()
    trades = iter([*run.trades, None])
    trade = next(trades)
    times = [parse_time(snapshot["simulated_at"]) for snapshot in run.snapshots]
    fills = {parse_time(trade["simulated_at"]) for trade in run.trades}
    assert times == sorted({*range(run.start, run.end + 1, HOUR), *fills})
    for time, snapshot in zip(times, run.snapshots, strict=True):
        while trade is not None and parse_time(trade["simulated_at"]) <= time:
            ledger.book(trade)
            trade = next(trades)
        value = ledger.value(run.market, time)
        unrealized = value - sum(ledger.cost.values())
        equity, position_value, available, locked = decimals(
            snapshot, "total_equity", "position_value", "available_cash", "locked_cash"
        )
        assert (equity, position_value) == (ledger.cash + value, value), snapshot
        assert available + locked == ledger.cash
        assert decimals(snapshot, "unrealized_pnl", "realized_pnl") == (
            unrealized,
            ledger.realized,
        )


def test_the_drawdown_is_the_deepest_of_all_minutes(run: Run) -> None:
    ledger = Ledger()
    trades = iter([*run.trades, None])
    trade = next(trades)
    peak, deepest = float(BALANCE), 0.0
    held: list[tuple[Candles, float]] = []
    for time in range(run.start, run.end + 1, MINUTE):
        while trade is not None and parse_time(trade["simulated_at"]) <= time:
            ledger.book(trade)
            trade = next(trades)
            held = [
                (run.market[symbol], float(quantity))
                for symbol, quantity in ledger.quantity.items()
                if quantity
            ]
        equity = float(ledger.cash) + sum(
            quantity * float(candles[time - MINUTE].close) for candles, quantity in held
        )
        peak = max(peak, equity)
        deepest = max(deepest, 1 - equity / peak)
    assert run.results["metrics"]["max_drawdown_pct"] == pytest.approx(deepest * 100, abs=1e-9)
