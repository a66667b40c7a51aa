"""Datasets: their names, and the candles that each name stands for."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.data.market.catalogue import Series, covered_periods
from candlestep.data.market.datasets import find_dataset, list_datasets
from candlestep.sandbox import InvalidParameter, parse_time
from candlestep.sandbox.clock import DAY, HOUR, MINUTE
from candlestep.sandbox.errors import NoPrice

T = parse_time("2024-12-31T20:00:00Z")


def series(
    start: int,
    end: int,
    interval: int = MINUTE,
    *gaps: tuple[int, int],
    exchange: str = "binance",
    symbol: str = "BTCUSDT",
) -> Series:
    rows = (end - start - sum(b - a for a, b in gaps)) // interval
    return Series(exchange, symbol, "BTC", "USDT", interval, start, end, rows, gaps, 1, False)


def test_each_year_at_each_interval_and_the_whole() -> None:
    datasets = {dataset.dataset_id: dataset for dataset in list_datasets([series(T, T + 5 * HOUR)])}
    assert list(datasets)[:3] == [
        "btcusdt-1m-2024",
        "btcusdt-1m-2025",
        "btcusdt-1m-20241231-20250101",
    ]
    assert datasets["btcusdt-1m-2024"][1:] == (
        "binance", "BTCUSDT", "USDT", MINUTE, T, T + 4 * HOUR, 240,
    )  # fmt: skip
    assert datasets["btcusdt-1h-2025"].candles == 1
    assert datasets["btcusdt-1h-20241231-20250101"].candles == 5
    assert datasets["btcusdt-4h-2024"].candles == 1
    assert "btcusdt-4h-2025" not in datasets, "an hour is not 4 hours"
    assert datasets["btcusdt-1d-2024"].candles == 1
    assert "btcusdt-1d-2025" not in datasets


def test_days_are_both_included_and_only_what_there_is_counts() -> None:
    candles = [series(T, T + 10 * DAY, MINUTE, (T + HOUR, T + 3 * HOUR + 90 * MINUTE))]
    dataset = find_dataset(candles, " BTCUSDT-1m-20241231-20241231 ")
    assert (dataset.dataset_id, dataset.start, dataset.end) == (
        "btcusdt-1m-20241231-20241231", T, T + HOUR,
    )  # fmt: skip
    assert dataset.candles == 60
    hours = find_dataset(candles, "btcusdt-1h-20241231-20250101")
    # One hour before the hole; of the day after it, those from 00:30 on, the first of them a part.
    assert hours.candles == 1 + 24
    assert find_dataset(candles, "btcusdt-1d-20250102-20250103").candles == 2


def test_coarser_candles_count_from_their_own_interval_on() -> None:
    days = parse_time("2024-01-01")
    both = [series(T, T + DAY), series(days, days + 10 * DAY, DAY)]
    datasets = {dataset.dataset_id: dataset for dataset in list_datasets(both)}
    assert "btcusdt-1h-2024" in datasets
    assert datasets["btcusdt-1h-2024"].start == T
    assert datasets["btcusdt-1d-2024"].candles == 11
    with pytest.raises(NoPrice):
        find_dataset(both, "btcusdt-1m-20240105-20240106")


def test_another_exchange_stands_in_front() -> None:
    kraken = [series(T, T + DAY, exchange="kraken")]
    assert list_datasets(kraken)[0].dataset_id == "kraken:btcusdt-1m-2024"
    assert find_dataset(kraken, "Kraken:BTCUSDT-1m-2024").exchange == "kraken"
    with pytest.raises(NoPrice, match="datasets lists them all"):
        find_dataset(kraken, "btcusdt-1m-2024")


def test_every_name_that_is_listed_finds_its_candles() -> None:
    known = [series(T - 400 * DAY, T + 500 * DAY), series(T, T + DAY, HOUR, exchange="kraken")]
    listed = list_datasets(known)
    assert len(listed) > 20
    assert [find_dataset(known, dataset.dataset_id) for dataset in listed] == listed


def test_perpetuals_have_names_of_their_own_and_short_ones() -> None:
    known = [
        series(T, T + DAY, symbol=name) for name in ("SOLUSDT", "SOLUSDT-PERP", "XRPUSDC-PERP")
    ]
    listed = {dataset.dataset_id for dataset in list_datasets(known) if dataset.interval == DAY}
    assert listed == {"solusdt-1d-2024", "solusdt-perp-1d-2024", "xrpusdc-perp-1d-2024"}
    for name in ("solusdt-perp-1h-2024", "sol-perp-1h-2024", "SOL-PERP-1h-2024"):
        found = find_dataset(known, name)
        assert (found.dataset_id, found.symbol) == ("solusdt-perp-1h-2024", "SOLUSDT-PERP")
    assert find_dataset(known, "solusdt-1h-2024").symbol == "SOLUSDT"
    for name in ("sol-1h-2024", "xrp-perp-1h-2024", "xrpusdt-perp-1h-2024"):
        with pytest.raises(NoPrice):
            find_dataset(known, name)


@pytest.mark.parametrize(
    "name",
    [
        "", "btcusdt", "btcusdt-1m", "btcusdt-2m-2024", "btcusdt-1m-24", "btcusdt-1m-20241301-20241302",
        "btcusdt-1m-0000", "btcusdt-1m-20240105-20240104", "btcusdt-1m-٢٠٢٤", "x" * 5000,
        "btcusdt-1m-2024-01", "sol-perps-1h-2025", "-perp-1h-2025", "sol-perp-perp-1h-2025",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        find_dataset([series(T, T + DAY)], name)
    assert refused.value.details["field"] == "dataset_id"
    assert len(refused.value.message) < 300


def test_a_name_of_nothing_says_what_is_near() -> None:
    for near in ("btcusd-1m-2024", "btcusdt-1m-2023"):
        with pytest.raises(NoPrice, match=r"; there are .*btcusdt-1m-2024"):
            find_dataset([series(T, T + DAY)], near)


@given(st.sets(st.integers(0, 300), min_size=1), st.sampled_from((5, 15, 60)))
def test_aggregated_candles_are_those_with_a_minute_in_them(minutes: set[int], length: int) -> None:
    """Except for a last one that is not whole."""
    present = sorted(minutes)
    gaps = [((a + 1) * MINUTE, b * MINUTE) for a, b in pairwise(present) if b > a + 1]
    minute_series = series(present[0] * MINUTE, (present[-1] + 1) * MINUTE, MINUTE, *gaps)
    whole = (present[-1] + 1) // length
    buckets = {minute // length for minute in present if minute // length < whole}
    interval = length * MINUTE
    spans = covered_periods([minute_series], interval)
    assert {start // interval for a, b in spans for start in range(a, b, interval)} == buckets
