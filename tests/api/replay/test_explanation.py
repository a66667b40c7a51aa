"""The first event that is another: found at its step, whatever the recording has of that step."""

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.api.replay.difference import Event, ReplayResult
from candlestep.api.replay.local_target import LocalTarget, RecordedMarket, local_session
from candlestep.api.replay.replay import re_record, replay
from candlestep.api.sessions.player import recorded_config
from candlestep.data.imports.importer import import_candles
from candlestep.data.imports.sample import sample_market
from candlestep.data.imports.validation import CandleColumns
from candlestep.data.journal.recording import (
    Recording,
    read_recording,
    recording_of,
    records_of,
)
from candlestep.data.journal.records import OrderRecord
from candlestep.data.store.database import Store
from candlestep.data.symbols import parse_symbol
from candlestep.sandbox import Candles, Market, Session, parse_time
from tests.support.api_client import sample_home
from tests.support.command_line import Run, candlestep
from tests.support.server_process import running

START = parse_time("2025-01-05")
MINUTE = 60_000
CASH = "10000"
CONFIG = {"start_time": "2025-01-05", "end_time": "2025-01-07", "starting_balance": CASH}
STEPS = 2 * 1440
ORDER: dict[str, Any] = {"symbol": "BTCUSDT", "side": "buy", "type": "limit", "quantity": "0.01"}
FAR_BELOW = "50000"

Json = dict[str, Any]


@cache
def _original() -> CandleColumns:
    return sample_market()["BTCUSDT"]


def sample(dips: dict[int, float] | None = None) -> CandleColumns:
    """Return the sample's minutes of BTCUSDT, with another low at some minutes after ``START``."""
    candles = _original()
    first = int(np.searchsorted(candles.open_time, START))
    low = candles.low.copy()
    for minute, price in (dips or {}).items():
        low[first + minute] = price
    return CandleColumns(
        candles.open_time, candles.open, candles.high, low, candles.close, candles.volume
    )


def market(dips: dict[int, float] | None = None) -> Market:
    columns = sample(dips)
    prices = zip(("open", "high", "low", "close", "volume"), columns.numbers(), strict=True)
    candles = Candles(symbol="BTCUSDT", interval="1m", open_time=columns.open_time, **dict(prices))
    return Market([candles])


def written(*commands: Json) -> Recording:
    start = {"do": "start", "pairs": ["BTCUSDT"], "config": CONFIG}
    lines = "".join(json.dumps(line) + "\n" for line in (start, *commands))
    return recording_of(records_of(lines.encode(), needs_crc=False))


def recorded(by_hand: Recording, on: Market) -> Recording:
    target = LocalTarget(by_hand.start, RecordedMarket(on, None))
    lines = re_record(by_hand, target, lambda done, total: None)
    return recording_of(records_of(lines, needs_crc=True))


def replayed(recording: Recording, on: Market, *, find_all: bool = False) -> ReplayResult:
    opened = partial(local_session, recording.start, RecordedMarket(on, None))
    return replay(recording, opened, lambda done, total: None, find_all=find_all)


def limit_order(price: str) -> Json:
    return {"do": "order", "order": ORDER | {"price": price}}


def step(steps: int, times: int = 1) -> Json:
    return {"do": "step", "steps": steps, "times": times}


def first_event(result: ReplayResult) -> Event:
    assert result.divergence is not None
    assert result.divergence.event is not None
    return result.divergence.event


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, STEPS - 2),
    st.sampled_from((1, 7, 60)),
    st.lists(st.integers(1, 200), max_size=3),
)
def test_a_fill_in_a_run_of_quiet_steps_is_found_at_its_step(
    minute: int, steps: int, before: list[int]
) -> None:
    """The oracle: a session of its own that is stepped one by one until the order fills."""
    commands = [limit_order(FAR_BELOW), *map(step, before), step(steps, STEPS // steps + 1)]
    recording = recorded(written(*commands), market())
    dipped = market({minute: 40_000.0})
    event = first_event(replayed(recording, dipped))

    session = Session(recorded_config(CONFIG, {}), dipped)
    order = session.place_order(**ORDER, price=FAR_BELOW)
    equity = session.portfolio().total_equity
    while not (report := session.step()).orders_filled:
        equity = report.portfolio.total_equity
    fill = session.order(order.id).fill
    assert fill is not None
    assert (event.kind, event.step, event.first_step) == ("fill", minute + 1, minute + 1)
    assert report.step == event.step
    # In the last steps of the session the recording has that the order was cancelled at its end.
    assert event.expected is None or event.expected["reason"] == "session_end"
    assert event.actual is not None
    assert event.actual["executed_price"] == f"{fill.price:.2f}"
    assert event.candle is not None
    assert event.candle["low"] == "40000.00"
    assert (event.before["total_equity"], event.before["positions"]) == (f"{equity:.2f}", [])
    assert float(event.after["total_equity"]) == pytest.approx(float(report.portfolio.total_equity))
    assert event.after["positions"][0]["quantity"] == "0.01"


def test_a_fill_that_does_not_happen_any_more_is_shown_where_it_was() -> None:
    commands = [step(30), limit_order(FAR_BELOW), step(600), step(1, 100)]
    recording = recorded(written(*commands), market({100: 40_000.0}))
    event = first_event(replayed(recording, market()))
    assert (event.kind, event.step, event.actual) == ("fill", 101, None)
    assert event.expected is not None
    assert event.expected["filled_at"] == "2025-01-05T01:41:00Z"
    assert event.before["locked_cash"] == event.after["locked_cash"] != "0.00"


def test_an_earlier_fill_in_the_same_step_is_the_first() -> None:
    commands = [limit_order(FAR_BELOW), limit_order("49000"), step(1000)]
    recording = recorded(written(*commands), market({700: 49_500.0}))
    event = first_event(replayed(recording, market({300: 48_000.0, 700: 49_500.0})))
    assert (event.step, event.time) == (301, "2025-01-05T05:01:00Z")
    assert event.actual is not None


def test_other_amounts_in_quiet_steps_are_between_two_steps() -> None:
    """A digest does not say which of the merged steps it was, nor what differed."""
    bought = {"do": "order", "order": ORDER | {"type": "market"}}
    commands = [bought, step(1, 50), step(1, 100), step(5)]
    recording = recorded(written(*commands), market())
    columns = sample()
    close = columns.close.copy()
    first = int(np.searchsorted(columns.open_time, START))
    close[first + 70] = columns.high[first + 70] - 0.01
    other = Candles(
        symbol="BTCUSDT", interval="1m", open_time=columns.open_time, open=columns.open,
        high=columns.high, low=columns.low, close=close, volume=columns.volume,
    )  # fmt: skip
    result = replayed(recording, Market([other]))
    event = first_event(result)
    assert event.kind == "amounts"
    assert event.first_step <= 71 <= event.step
    assert [difference.months for difference in result.candles] == [("2025-01",)]


def test_who_waits_is_told_of_every_part_of_a_replay_and_may_stop_it(tmp_path: Path) -> None:
    """Reading, playing, and playing again up to the first difference, which is the last fill."""
    many = [limit_order(str(1000 + number)) for number in range(500)]
    commands = [limit_order(FAR_BELOW), *many, step(20), step(1000)]
    recording = recorded(written(*commands), market())
    opened = partial(local_session, recording.start, RecordedMarket(market({700: 40_000.0}), None))
    reports: list[int] = []
    result = replay(recording, opened, lambda done, total: reports.append(done))
    assert first_event(result).kind == "fill"
    assert reports == [200, 400, 503, 502, 502, 502]

    file = tmp_path / "many.jsonl"
    file.write_bytes(
        re_record(
            recording, LocalTarget(recording.start, RecordedMarket(market(), None)), lambda *_: None
        )
    )
    reports.clear()
    read_recording(file, lambda done, total: reports.append(done))
    assert len(reports) == 1
    with pytest.raises(ZeroDivisionError):
        read_recording(file, lambda done, total: done // 0)


def test_every_difference_is_found_on_its_own() -> None:
    """An answer that was changed in the file differs; what follows it is compared as before."""
    commands = [limit_order(FAR_BELOW), step(30), limit_order("49000"), step(1, 40), step(7)]
    recording = recorded(written(*commands), market())
    records = list(recording.records)
    for index in (0, 2):
        record = records[index]
        assert isinstance(record, OrderRecord)
        assert record.answer is not msgspec.UNSET
        answer = msgspec.json.encode(msgspec.json.decode(record.answer) | {"fee": "1.00"})
        records[index] = msgspec.structs.replace(record, answer=msgspec.Raw(answer))
    result = replayed(Recording(recording.start, records), market(), find_all=True)
    assert [divergence.line for divergence in result.divergences] == [2, 4]
    assert [one.fields[0].name for one in result.divergences] == ["fee", "fee"]
    assert result.commands == len(recording.records)
    assert not replayed(recording, market(), find_all=True).divergences


def of_other_end(recording: Recording, end: str) -> Recording:
    config = recording.start.config | {"end_time": end}
    start = msgspec.structs.replace(recording.start, config=config, candles=None, digest=None)
    return msgspec.structs.replace(recording, start=start)


def test_steps_that_are_refused_now_or_were_are_shown_as_refusals() -> None:
    """A session that ends elsewhere: quiet steps meet its end, or a step after it is made."""
    recording = recorded(written(limit_order(FAR_BELOW), step(1, 100)), market())
    shorter = of_other_end(recording, "2025-01-05T00:50")
    result = replayed(shorter, market(), find_all=True)
    refused = result.divergences[-1]
    assert (refused.expected_status, refused.status) == (200, 409)
    run = msgspec.structs.replace(shorter, records=[shorter.records[0], shorter.records[1]])
    assert first_event(replayed(run, market())).step == 50

    past_the_end = recorded(written(step(STEPS), step(1)), market())
    longer = of_other_end(past_the_end, "2025-01-08")
    records = [msgspec.structs.replace(longer.records[0], answer=msgspec.UNSET, digest=None)]
    result = replayed(Recording(longer.start, [*records, longer.records[1]]), market())
    event = first_event(result)
    assert result.divergence is not None
    assert (result.divergence.expected_status, result.divergence.status) == (409, 200)
    assert (event.kind, event.step) == ("command", STEPS + 1)
    assert event.expected is not None
    assert event.expected["code"] == "INVALID_STATE"


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Return a home, a recording downloaded from another on other candles, and a file of these."""
    directory = tmp_path_factory.mktemp("corrected")
    home = sample_home(directory / "recorded")
    with running(home) as server, server.client() as client:
        api = "/api/v1/backtest"
        session_id = client.post(f"{api}/create", json=CONFIG | {"pairs": ["BTCUSDT"]}).json()[
            "session_id"
        ]
        client.post(f"{api}/{session_id}/start")
        client.post(f"{api}/{session_id}/trade/order", json=ORDER | {"price": FAR_BELOW})
        for _ in range(100):
            client.post(f"{api}/{session_id}/step/batch", json={"steps": 20})
        recording = directory / "recording.jsonl"
        recording.write_bytes(client.get(f"{api}/{session_id}/recording").content)
    other = directory / "other"
    store = Store.open(other)
    columns = sample({1500: 40_000.0})
    import_candles(
        store, columns, parse_symbol("BTCUSDT"), MINUTE, source="corrected", synthetic=True
    )
    store.close()
    original = directory / "BTCUSDT-1m.csv"
    rows = zip(sample().open_time.tolist(), *sample().numbers(), strict=True)
    text = "".join(",".join(map(repr, map(float, row))) + "\n" for row in rows)
    original.write_text("time,open,high,low,close,volume\n" + text)
    return other, recording, original


@pytest.fixture(params=["library", "server on the home", "server"])
def run(request: pytest.FixtureRequest, corrected: tuple[Path, Path, Path]) -> Callable[..., Run]:
    home, recording, _ = corrected
    if request.param == "library":
        return lambda *options: candlestep("replay", recording, *options, "--home", home)

    def beside_a_server(*options: object) -> Run:
        with running(home) as server:
            where = ("--url", server.url) if request.param == "server" else ("--home", home)
            return candlestep("replay", recording, *options, *where)

    return beside_a_server


def test_the_report_shows_the_fill_with_its_candle_account_and_day(run: Callable[..., Run]) -> None:
    done = run()
    assert (done.code, done.err) == (1, "")
    lines = [line.rstrip() for line in done.out.splitlines()]
    assert lines[2:4] == [
        "symbol   months (UTC)  days (UTC)",
        "BTCUSDT  2025-01       2025-01-06",
    ]
    assert "at step 1,501 (2025-01-06T01:01:00Z)" in done.out
    assert "Order 1 (buy 0.01 BTCUSDT limit) filled here, and did not" in done.out
    assert "executed_price  -         50000.00" in done.out
    assert "The candle of BTCUSDT at that step:" in done.out
    [cash] = [line.split() for line in lines if line.startswith("available_cash")]
    assert cash == ["available_cash", "9499.50", "9499.50"], "the price and the fee were locked"
    [quantity] = [line.split() for line in lines if line.startswith("BTCUSDT quantity")]
    assert quantity == ["BTCUSDT", "quantity", "-", "0.01"]


def test_the_result_is_json_and_a_file_for_ci(run: Callable[..., Run], tmp_path: Path) -> None:
    junit = tmp_path / "replay.xml"
    done = run("--json", "--all", "--junit", junit)
    assert done.code == 1
    result = json.loads(done.out)
    assert result["candles"] == [
        {"symbol": "BTCUSDT", "months": ["2025-01"], "days": ["2025-01-06"]}
    ]
    assert result["divergences"][0]["event"]["actual"]["filled_at"] == "2025-01-06T01:01:00Z"
    assert len(result["divergences"]) > 1, "the position changes every answer from then on"
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "2", "0")
    names = {case.get("name"): case for case in suite}
    assert "2025-01-06" in (names["candles"].findtext("failure") or "")
    shown = (names["answers"].findtext("failure") or "").splitlines()
    assert [json.loads(line) for line in shown] == result["divergences"]


def test_a_file_of_the_original_candles_shows_which_is_another(
    corrected: tuple[Path, Path, Path],
) -> None:
    home, recording, original = corrected
    done = candlestep("replay", recording, "--candles", original, "--home", home)
    assert done.code == 1
    table = done.out.split("Candles in the file and in the market:\n\n")[1].split("\n\n")[0]
    assert "and" not in table
    _, in_file, in_market = (line.split() for line in table.splitlines())
    assert in_file[:4] == ["BTCUSDT", "2025-01-06T01:00:00Z", "file", in_market[3]]
    assert (in_market[2], in_market[5]) == ("market", "40000.0")
    same = original.with_name("same.jsonl")
    same.write_bytes(recording.read_bytes())
    assert candlestep("replay", "--record", same, "--home", home).code == 0
    done = candlestep("replay", same, "--candles", original, "--home", home)
    assert done.code == 0
    assert done.out.split("Candles in the file and in the market:\n\n")[1].strip() == table
    of_another = original.with_name("DOGEUSDT-1m.csv")
    of_another.write_bytes(original.read_bytes())
    done = candlestep("replay", recording, "--candles", of_another, "--home", home)
    assert done.code == 3
    assert "it has no candles of BTCUSDT" in done.err


def test_a_replay_that_could_not_be_made_is_no_difference(
    corrected: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    home, recording, _ = corrected
    junit = tmp_path / "replay.xml"
    done = candlestep("replay", recording, "--home", tmp_path / "empty", "--junit", junit)
    assert done.code == 3
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("failures"), suite.get("errors")) == ("0", "1")
    assert "there are no candles" in str(suite.find("testcase/error").attrib)  # type: ignore[union-attr]
    done = candlestep("replay", recording, "--home", home, "--junit", tmp_path / "none" / "x")
    # What was found is told before what could not be written.
    assert done.code == 3
    assert "BTCUSDT" in done.out
    assert "No such file" in done.err
    for wrong in (["--record", "--all"], ["--candles", recording, "--url", "http://x"]):
        assert candlestep("replay", recording, *wrong, "--home", home).code == 2
