"""Files of orders with wall-clock times: each placed at the first step at or after its time."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.api.replay.local_target import RecordedMarket
from candlestep.api.replay.order_file import FileOrder, read_orders
from candlestep.api.replay.order_sequence import PlacedSequence, place_orders
from candlestep.data.errors import UnreadableFile
from candlestep.data.journal.records import Start
from candlestep.sandbox import Market, SandboxError, Session, SessionConfig, format_time, parse_time
from tests.support.api_client import sample_home
from tests.support.candles import minutes
from tests.support.command_line import Run, candlestep
from tests.support.project import ROOT
from tests.support.server_process import running

EXAMPLE = ROOT / "examples" / "orders.csv"
HEADER = "time,symbol,side,type,quantity,price,trigger_price,client_order_id,cancel\n"
SESSION = ("--from", "2025-01-05", "--to", "2025-01-12", "--balance", "10000")
START = parse_time("2025-01-05")
MINUTE = 60_000
STEPS = 50
CONFIG = {"start_time": START, "end_time": START + STEPS * MINUTE, "starting_balance": "1000"}

Json = dict[str, Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def place(home: Path, tmp_path: Path) -> Callable[..., Run]:
    """Return a function that places a file with this content."""

    def run(text: str, *options: str, session: tuple[str, ...] = SESSION) -> Run:
        file = tmp_path / "orders.csv"
        file.write_text(text)
        return candlestep("replay", file, *session, *options, "--home", home)

    return run


def small_market() -> Market:
    closes = [100.0 + number * 7 % 11 for number in range(STEPS + 5)]
    return Market([minutes("BTCUSDT", *closes, start=START - 5 * MINUTE)])


def test_who_waits_may_stop_the_reading_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    row = "2025-01-05T00:00:00Z,BTCUSDT,buy,market,0.01,,,,\n"
    file.write_text(HEADER + row * 2500)
    checks: list[None] = []
    assert len(read_orders(file, {}, lambda: checks.append(None))) == 2500
    assert len(checks) == 3


def placed(orders: list[FileOrder], on: Market) -> PlacedSequence:
    start = Start(config=CONFIG | {"allow_gaps": False}, pairs=["BTCUSDT"])
    return place_orders("orders.csv", orders, start, RecordedMarket(on, None), lambda *_: None)


ORDERS = st.lists(
    st.tuples(
        st.integers(0, (STEPS - 1) * MINUTE),
        st.sampled_from(("buy", "sell")),
        st.sampled_from(("market", "limit")),
        st.integers(90, 115),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(ORDERS)
def test_orders_fill_as_in_a_session_stepped_one_by_one(
    rows: list[tuple[int, str, str, int, int]],
) -> None:
    """The oracle: at each step, the orders whose time has come since the step before, in order."""
    market = small_market()
    orders = []
    for line, (offset, side, kind, price, quantity) in enumerate(rows, 2):
        order: Json = {"symbol": "BTCUSDT", "side": side, "type": kind, "quantity": str(quantity)}
        if kind == "limit":
            order["price"] = str(price)
        orders.append(FileOrder(line, START + offset, order, None))
    outcome = placed(orders, market)

    session = Session(SessionConfig(**CONFIG), market)  # type: ignore[arg-type]
    for step in range(STEPS):
        latest = session.time
        for row in orders:
            if latest - MINUTE < row.time <= latest:
                try:
                    session.place_order(**row.order)
                except SandboxError:
                    continue
        assert session.step_number == step
        session.step()
    trades = outcome.results.trades
    assert len(trades) == len(session.fills)
    for trade, fill in zip(trades, session.fills, strict=True):
        assert (float(trade.quantity), float(trade.fee)) == (float(fill.quantity), float(fill.fee))
        assert float(trade.price) == pytest.approx(float(fill.price))
        assert trade.simulated_at == format_time(fill.time)
    assert outcome == placed(orders, market), "placed twice, the same to the byte"


@pytest.mark.parametrize("is_served", [False, True])
def test_the_example_is_placed_and_its_recording_replays(
    home: Path, tmp_path: Path, is_served: bool
) -> None:
    file = tmp_path / "orders.csv"
    file.write_bytes(EXAMPLE.read_bytes())
    written = []
    with running(sample_home(tmp_path / "served")) if is_served else nullcontext() as server:
        where = ("--home", home if server is None else server.home)
        for _ in range(2):
            done = candlestep("replay", file, *SESSION, *where)
            assert (done.code, done.err) == (0, "")
            recording = tmp_path / "orders.recording.jsonl"
            results = tmp_path / "orders.results.json"
            written.append((recording.read_bytes(), results.read_bytes()))
            assert candlestep("replay", recording, *where).code == 0
        if server is not None:
            assert candlestep("replay", recording, "--url", server.url).code == 0
    assert written[0] == written[1]
    shown = [line.split() for line in done.out.splitlines()]
    assert [row[:3] for row in shown[1:9]] == [
        ["2", "1", "2025-01-05T00:01:00Z"],
        ["3", "1", "2025-01-05T00:01:00Z"],
        ["4", "375", "2025-01-05T06:15:00Z"],
        ["5", "780", "2025-01-05T13:00:00Z"],
        ["6", "1,980", "2025-01-06T09:00:00Z"],
        ["7", "1,980", "2025-01-06T09:00:00Z"],
        ["8", "5,310", "2025-01-08T16:30:00Z"],
        ["9", "6,240", "2025-01-09T08:00:00Z"],
    ]
    outcomes = json.loads(written[0][1])["orders"]
    assert outcomes[4]["cancelled"] == "far"
    assert outcomes[3]["order"]["status"] == "cancelled"
    assert "costs" in outcomes[5]["refusal"]


def test_the_same_orders_in_other_forms_are_the_same(tmp_path: Path) -> None:
    expected = [order._replace(line=0) for order in read_orders(EXAMPLE, {})]
    rows = [line.split(",") for line in EXAMPLE.read_text().splitlines()]
    names, *values = rows
    objects = [
        {name: value or None for name, value in zip(names, row, strict=True)} for row in values
    ]
    semicolons = "\n\n".join(line.replace(",", ";") for line in EXAMPLE.read_text().splitlines())
    ccxt = {
        "time": "timestamp",
        "quantity": "amount",
        "trigger_price": "triggerPrice",
        "client_order_id": "clientOrderId",
    }
    exchange = []
    for row, order in zip(objects, expected, strict=True):
        renamed: Json = {ccxt.get(name, name): value for name, value in row.items()}
        renamed |= {"timestamp": order.time, "info": {"x": 1}, "fee": None, "status": "closed"}
        renamed["amount"] = row["quantity"] and float(row["quantity"])
        if row["type"] == "market":
            renamed["price"] = 99999.5  # What ccxt calls the price of a market order that filled.
        exchange.append(renamed)
    files: dict[str, tuple[str, dict[str, str]]] = {
        "lines.jsonl": ("\n".join(map(json.dumps, objects)), {}),
        "list.json": (json.dumps(objects, indent=1), {}),
        "semicolons.csv": ("\ufeff" + semicolons, {}),
        "ccxt.json": (json.dumps(exchange), ccxt),
    }
    for name, (text, columns) in files.items():
        file = tmp_path / name
        file.write_text(text)
        read = [order._replace(line=0) for order in read_orders(file, columns)]
        for order, like in zip(read, expected, strict=True):
            assert (order.time, order.cancels) == (like.time, like.cancels), name
            quantities = [float(one.order.get("quantity", 0)) for one in (order, like)]
            assert quantities[0] == quantities[1]
            assert order.order | {"quantity": 0} == like.order | {"quantity": 0}, name


@pytest.mark.parametrize(
    ("time", "milliseconds"),
    [
        ("2025-01-05T01:00:00Z", 3_600_000),
        ("2025-01-05 01:00", 3_600_000),
        ("2025-01-05T01:00:00.0000005Z", 3_600_000),
        ("2025-01-05T01:00:00.000001Z", 3_600_001),
        ("1736038800", 3_600_000),
        ("1736038800000", 3_600_000),
        ("1736038800000001", 3_600_001),
    ],
)
def test_times_are_iso_or_numbers(tmp_path: Path, time: str, milliseconds: int) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(HEADER + f"{time},BTCUSDT,buy,market,1,,,,\n")
    [order] = read_orders(file, {})
    assert order.time == START + milliseconds


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (",BTCUSDT,buy,market,1,,,,", "time: is missing"),
        ("yesterday,BTCUSDT,buy,market,1,,,,", "time: 'yesterday' is not an ISO 8601 time"),
        ("2025-01-05,,buy,market,1,,,,", "symbol"),
        ("2025-01-05,BTCUSDT,hold,market,1,,,,", "side"),
        ("2025-01-05,BTCUSDT,buy,iceberg,1,,,,", "type"),
        ("2025-01-05,BTCUSDT,buy,market,,,,,", "quantity"),
        ("2025-01-05,BTCUSDT,buy,market,-1,,,,", "quantity"),
        ("2025-01-05,BTCUSDT,buy,limit,1,,,,", "price"),
        ("2025-01-05,BTCUSDT,buy,limit,1,x,,,", "price"),
        (
            "2025-01-05,BTCUSDT,buy,market,1,,,first,",
            "client_order_id: 'first' is that of an order",
        ),
        ("2025-01-05,,,,,,,,none", "cancel: no order above has the client_order_id 'none'"),
        ("2025-01-05,,,,,,,,true", "client_order_id: is missing"),
        ("2025-01-05,BTCUSDT,buy", "it has 3 columns, the header 9"),
        ("2025-01-04T23:59:59Z,BTCUSDT,buy,market,1,,,,", "2025-01-04T23:59:59Z is before"),
        ("2025-01-11T23:59:01Z,BTCUSDT,buy,market,1,,,,", "2025-01-11T23:59:01Z is after"),
    ],
)
def test_bad_rows_are_named_by_line(place: Callable[..., Run], row: str, problem: str) -> None:
    good = "2025-01-05,BTCUSDT,buy,market,0.01,,,first,\n"
    done = place(HEADER + good + "\n" + row + "\n")
    assert (done.code, done.out) == (3, "")
    assert "orders.csv: 1 bad row, nothing was placed: line 4: " in done.err
    assert problem in done.err


def test_all_bad_rows_are_counted(place: Callable[..., Run]) -> None:
    done = place(HEADER + "x,BTCUSDT,buy,market,1,,,,\n" * 8)
    assert "8 bad rows, nothing was placed: line 2: time" in done.err
    assert "line 6: time" in done.err
    assert "and 3 more" in done.err


def test_unknown_columns_are_refused_until_some_are_named(place: Callable[..., Run]) -> None:
    text = "datetime,symbol,side,type,amount,fee\n2025-01-05,BTCUSDT,buy,market,0.01,1\n"
    done = place(text)
    assert done.code == 3
    assert "columns datetime, amount, fee are unknown" in done.err
    done = place(text, "--columns", "time=datetime, quantity=amount")
    assert (done.code, done.err) == (0, "")
    assert "1 fills" in done.out
    assert place(text, "--columns", "when=datetime").code == 2
    done = place(text, "--columns", "time=datetime,quantity=Size")
    assert done.code == 3
    assert "it has no column size" in done.err


def test_a_column_is_never_taken_for_another(place: Callable[..., Run]) -> None:
    """Exports have columns without a name, and the same name twice in other letters."""
    row = "2025-01-05,BTCUSDT,buy,0.01"
    header = "time,symbol,side,quantity"
    assert place(f"{header},,\n{row},,\n").code == 0
    done = place(f"{header},,\n{row},5,\n")
    assert (done.code, done.out) == (3, "")
    assert "line 2: '5' is in a column without a name" in done.err
    indexed = f",{header},fee,Fee,cancel\n0,{row},1,1,False\n"
    assert place(indexed, "--columns", "time=time").code == 0
    doubled = f"{header},Quantity\n{row},0.02\n"
    lines = '{"time":"2025-01-05","symbol":"BTCUSDT","side":"buy","quantity":1,"Quantity":5}'
    for text in (doubled, doubled.replace("Q", "q"), lines):
        done = place(text)
        assert (done.code, done.out) == (3, "")
        assert "it has the column quantity twice" in done.err
    assert "0.02" in place(doubled, "--columns", "quantity=Quantity").out
    assert place(doubled, "--columns", "time=time,time=when").code == 2


def test_without_a_type_an_order_is_a_market_order(place: Callable[..., Run]) -> None:
    done = place("time,symbol,side,quantity\n2025-01-05,BTCUSDT,buy,0.01\n")
    assert "market" in done.out
    done = place("time,symbol,side,quantity,price\n2025-01-05,BTCUSDT,buy,0.01,90000\n")
    assert done.code == 3
    assert "line 2: price: a market order takes no price" in done.err


def test_perpetuals_are_traded_in_a_session_of_their_own(
    place: Callable[..., Run], tmp_path: Path, home: Path
) -> None:
    text = (
        "time,symbol,side,type,quantity,reduce_only\n"
        "2025-01-05,SOL/USDT:USDT,sell,market,3,\n"
        "2025-01-06,SOLUSDT-PERP,buy,market,3,true\n"
    )
    done = place(text)
    assert (done.code, done.err) == (0, "")
    assert "2 fills" in done.out
    assert candlestep("replay", tmp_path / "orders.recording.jsonl", "--home", home).code == 0
    done = place(text + "2025-01-06,BTCUSDT,buy,market,0.01,\n")
    assert (done.code, done.out) == (3, "")
    assert "symbol: must all be spot pairs, or all perpetuals" in done.err


def test_what_a_session_could_not_do_is_refused(place: Callable[..., Run]) -> None:
    row = "2025-01-05,BTCUSDT,buy,market,0.01,,,,\n"
    cases = {
        (HEADER, SESSION): "it has no orders",
        (HEADER + row.replace("BTCUSDT", "DOGEUSDT"), SESSION): "no candles of DOGEUSDT",
        (
            HEADER + row,
            ("--from", "2025-01-05", "--to", "2045-01-12", "--balance", "1"),
        ): "3660 days",
        (HEADER + row, ("--from", "2025-01-05", "--to", "2025-06-12", "--balance", "1")): "candles",
    }
    for (text, session), problem in cases.items():
        done = place(text, session=session)
        assert (done.code, done.out) == (3, ""), problem
        assert problem in done.err
    misused = {
        ("--from", "soon", "--to", "2025-01-12", "--balance", "1"): "--from: 'soon' is not",
        ("--from", "2025-01-05", "--to", "2025-01-12", "--balance", "0"): "--balance: must be",
        ("--from", "2025-01-05", "--to", "2025-01-04", "--balance", "1"): "--to: 2025-01-04 is not",
    }
    for session, problem in misused.items():
        done = place(HEADER + row, session=session)
        assert (done.code, done.out) == (2, "")
        assert problem in done.err
    assert place(HEADER + row, session=()).code == 2
    assert place(HEADER + row, session=SESSION[:4]).code == 2
    assert place(HEADER + row, "--json").code == 2
    assert place(HEADER + row, "--exchange", "kraken").code == 3
    assert place(HEADER + row, "--exchange", "kraken", session=()).code == 2


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    twice = b"time,time\n2025-01-05,2025-01-06\n"
    for content in (
        twice,
        b"[" * 100_000,
        b"{" * 100_000,
        b"[" + b"9" * 5000 + b"]",
        b"\xff\xfe",
        b"[1",
        b"[1]",
        b"{}\n{",
        b'{"time":{}}',
    ):
        file = tmp_path / "orders.json"
        file.write_bytes(content)
        with pytest.raises(UnreadableFile):
            read_orders(file, {})


def test_results_that_cannot_be_written_are_said(home: Path, tmp_path: Path) -> None:
    """The name of the recording is too long, so that there is no file to clean up either."""
    file = tmp_path / f"{'o' * 240}.csv"
    file.write_bytes(EXAMPLE.read_bytes())
    done = candlestep("replay", file, *SESSION, "--home", home)
    assert (done.code, done.out) == (3, "")
    assert "recording.jsonl: File name too long" in done.err
