"""The fee schedules that come with the product, and those that a user adds."""

import json
from pathlib import Path
from typing import Any

import pytest

from candlestep.data.market.fee_schedules import FILE_NAME, fee_schedule
from candlestep.sandbox import InvalidParameter, parse_time
from candlestep.sandbox.config import MarketType
from candlestep.sandbox.exchange.costs.fee_schedule import FeeSchedule
from tests.support.project import ROOT

SHIPPED = ROOT / "data" / "market" / FILE_NAME


def rates(
    home: Path, venue: str, symbol: str, time: str, market_type: MarketType = "spot"
) -> tuple[str, str]:
    """Return the maker and taker rate of a venue at a time."""
    instant = parse_time(time)
    entries = fee_schedule(venue, market_type, home)
    period = FeeSchedule.parse(entries, instant, instant).in_force(symbol, instant)
    return str(period.maker.normalize()), str(period.taker.normalize())


@pytest.mark.parametrize(
    ("venue", "symbol", "time", "expected"),
    [
        ("binance", "BTCUSDT", "2017-07-14", ("0.001", "0.001")),
        ("binance", "BTCUSDT", "2022-07-08T13:59:59Z", ("0.001", "0.001")),
        ("binance", "BTCUSDT", "2022-07-08T14:00:00Z", ("0", "0")),
        ("binance", "ETHUSDT", "2022-07-08T14:00:00Z", ("0.001", "0.001")),
        ("binance", "BTCUSDT", "2023-03-21T23:59:59Z", ("0", "0")),
        ("binance", "BTCUSDT", "2023-03-22", ("0.001", "0.001")),
        ("binance", "BTCUSDT", "2026-01-01", ("0.001", "0.001")),
        ("coinbase", "BTCUSD", "2018-04-05", ("0", "0.003")),
        ("coinbase", "BTCUSD", "2019-03-23T00:59:59Z", ("0", "0.003")),
        ("coinbase", "BTCUSD", "2019-03-23T01:00:00Z", ("0.0015", "0.0025")),
        ("coinbase", "BTCUSD", "2022-02-28T23:59:59Z", ("0.005", "0.005")),
    ],
)
def test_what_venues_charged(
    tmp_path: Path, venue: str, symbol: str, time: str, expected: tuple[str, str]
) -> None:
    assert rates(tmp_path, venue, symbol, time) == expected


@pytest.mark.parametrize(
    ("time", "taker"),
    [("2021-03-24", "0.0004"), ("2023-01-31", "0.0004"), ("2024-04-28", "0.0005")],
)
def test_what_perpetuals_cost(tmp_path: Path, time: str, taker: str) -> None:
    assert rates(tmp_path, "binance", "BTCUSDT-PERP", time, "perp") == ("0.0002", taker)


@pytest.mark.parametrize(
    ("venue", "market_type", "time"),
    [
        ("binance", "spot", "2017-07-13"),
        ("coinbase", "spot", "2018-04-04"),
        ("coinbase", "spot", "2022-03-01"),
        ("binance", "perp", "2021-03-23"),
        ("binance", "perp", "2023-02-01"),
    ],
)
def test_a_time_of_which_nothing_is_known_is_refused(
    tmp_path: Path, venue: str, market_type: MarketType, time: str
) -> None:
    with pytest.raises(InvalidParameter, match="are unknown") as refusal:
        rates(tmp_path, venue, "BTCUSD", time, market_type)
    assert refusal.value.details["field"] == "fee_model"


def test_every_entry_says_where_it_is_from() -> None:
    venues = json.loads(SHIPPED.read_text())["venues"]
    assert venues
    for venue in venues.values():
        assert all(entry["source"] for entry in venue["entries"] + venue.get("futures", []))


def own(home: Path, venues: object) -> None:
    (home / FILE_NAME).write_text(json.dumps({"venues": venues}))


MINE = {"from": "2020-01-01", "maker": "0.0001", "taker": "0.0002"}


def test_a_file_of_the_home_adds_and_replaces_venues(tmp_path: Path) -> None:
    promotion = MINE | {"from": "2021-01-01", "symbols": ["btc/usdt"], "maker": "0"}
    own(tmp_path, {"Mine": {"entries": [MINE, promotion]}, "binance": {"entries": [MINE]}})
    assert rates(tmp_path, "mine", "BTCUSDT", "2020-06-01") == ("0.0001", "0.0002")
    assert rates(tmp_path, "mine", "BTCUSDT", "2021-06-01") == ("0", "0.0002")
    assert rates(tmp_path, "binance", "BTCUSDT", "2022-09-01") == ("0.0001", "0.0002")
    assert rates(tmp_path, "coinbase", "BTCUSD", "2020-01-01") == ("0.005", "0.005")


def test_fees_of_perpetuals_in_the_home_stand_beside_those_of_spot(tmp_path: Path) -> None:
    own(tmp_path, {"binance": {"entries": [MINE]}, "mine": {"entries": [MINE], "futures": [MINE]}})
    assert rates(tmp_path, "mine", "BTCUSDT-PERP", "2021-06-01", "perp") == ("0.0001", "0.0002")
    assert rates(tmp_path, "binance", "BTCUSDT-PERP", "2025-01-01", "perp")[1] == "0.0005"
    with pytest.raises(InvalidParameter, match="for perpetuals of 'coinbase'") as refusal:
        fee_schedule("coinbase", "perp", tmp_path)
    assert refusal.value.details["venues"] == ["binance", "mine"]


def test_an_unknown_venue_is_told_which_there_are(tmp_path: Path) -> None:
    own(tmp_path, {"mine": {"entries": [MINE]}})
    with pytest.raises(InvalidParameter, match="binance, coinbase, mine") as refusal:
        fee_schedule("nowhere", "spot", tmp_path)
    assert refusal.value.details == {
        "field": "fee_model",
        "venues": ["binance", "coinbase", "mine"],
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"{",
        b'{"venues": {"a": {}}}',
        b'{"venues": {"a": {"entries": [1]}}}',
        '{"venues": {"börse": {"entries": []}}}'.encode("latin-1"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(InvalidParameter, match=FILE_NAME) as refusal:
        fee_schedule("binance", "spot", tmp_path)
    assert refusal.value.details["field"] == "fee_model"


@pytest.mark.parametrize(
    "change", [{"maker": 0.001}, {"until": 5}, {"symbols": ["B!"]}, {"fee": "1"}]
)
def test_an_entry_that_is_wrong_spoils_the_file(tmp_path: Path, change: dict[str, Any]) -> None:
    own(tmp_path, {"mine": {"entries": [MINE | change]}})
    with pytest.raises(InvalidParameter, match=FILE_NAME):
        fee_schedule("mine", "spot", tmp_path)
