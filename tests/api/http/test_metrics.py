"""Metrics as Prometheus reads them."""

from collections.abc import Iterable, Iterator

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from candlestep.api.http.metrics import REQUEST_BUCKETS, Metrics, Reading
from tests.support.api_client import BACKTEST, Api

GAUGES = {
    "candlestep_open_sessions",
    "candlestep_sessions_in_memory",
    "candlestep_candle_bytes",
    "candlestep_jobs",
    "candlestep_queue_length",
    "candlestep_workers",
    "candlestep_workers_busy",
    "candlestep_store_bytes",
    "candlestep_journal_bytes",
}
COUNTERS = {"candlestep_steps", "candlestep_requests", "candlestep_request_seconds"}
HISTOGRAMS = {
    "candlestep_request_duration_seconds",
    "candlestep_store_write_seconds",
    "candlestep_journal_write_seconds",
}


def families(text: str) -> dict[str, Metric]:
    """Parse Prometheus's text format."""
    return {
        family.name: family
        for family in text_string_to_metric_families(text)
        if not family.name.endswith("_created")
    }


def values(family: Metric, suffix: str = "", **labels: str) -> list[float]:
    """Return the values of the samples that have these labels."""
    return [
        sample.value
        for sample in family.samples
        if sample.name.endswith(suffix) and labels.items() <= sample.labels.items()
    ]


@pytest.fixture
def metrics() -> Metrics:
    def readings() -> Iterator[Reading]:
        yield Reading("rooms", "Rooms.", {"free": 2, "taken": 1}, "state")
        yield Reading("guests_total", "Guests.", 7, kind="counter")

    return Metrics(readings)


def test_a_latency_is_in_every_bucket_that_is_not_below_it(metrics: Metrics) -> None:
    for seconds in (0.0, 0.001, 0.0011, 1000.0):
        metrics.requests.note("GET", "/x", 200, seconds)
    read = families(metrics.text().decode())["candlestep_request_duration_seconds"]

    counts = {
        sample.labels["le"]: sample.value
        for sample in read.samples
        if sample.name.endswith("_bucket")
    }
    assert [float(bound) for bound in counts] == [*REQUEST_BUCKETS, float("inf")]
    assert counts["0.0005"] == 1
    assert counts["0.001"] == 2
    assert counts["0.0025"] == counts["30.0"] == 3
    assert counts["+Inf"] == 4
    assert values(read, "_count") == [4]
    assert values(read, "_sum") == [pytest.approx(1000.0021)]


def test_requests_are_told_apart_by_method_path_and_status(metrics: Metrics) -> None:
    for method, path, status in [("GET", "/x", 200), ("GET", "/x", 404), ("POST", "/x", 200)]:
        metrics.requests.note(method, path, status, 0.5)
    read = families(metrics.text().decode())

    requests = read["candlestep_requests"]
    assert values(requests, method="GET", path="/x", status="404") == [1]
    assert values(requests, path="/x") == [1, 1, 1]
    assert values(read["candlestep_request_seconds"], method="GET") == [1.0]


def test_readings_are_read_when_asked_for(metrics: Metrics) -> None:
    read = families(metrics.text().decode())

    assert read["rooms"].type == "gauge"
    assert values(read["rooms"], state="free") == [2]
    assert read["guests"].type == "counter"
    assert values(read["guests"]) == [7]


def test_durations_may_be_noted_by_name(metrics: Metrics) -> None:
    note = metrics.histogram("sleep_seconds", "Sleep.")
    note(0.5)
    note(2.0)

    assert values(families(metrics.text().decode())["sleep_seconds"], "_sum") == [2.5]


def test_two_servers_of_a_process_have_metrics_of_their_own() -> None:
    def nothing() -> Iterable[Reading]:
        return ()

    first, second = Metrics(nothing), Metrics(nothing)
    first.requests.note("GET", "/x", 200, 0.5)

    assert b"/x" in first.text()
    assert b"/x" not in second.text()


def test_a_server_describes_each_of_its_metrics(client: httpx.Client) -> None:
    answer = client.get("/metrics")
    read = families(answer.text)

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    by_type = {
        kind: {family.name for family in read.values() if family.type == kind}
        for kind in ("gauge", "counter", "histogram")
    }
    assert by_type == {"gauge": GAUGES, "counter": COUNTERS, "histogram": HISTOGRAMS}
    for family in read.values():
        assert family.documentation, family.name


def test_writes_sessions_and_sizes_are_measured(api: Api) -> None:
    before = families(api.client.get("/metrics").text)
    session_id = api.started()
    api.step(session_id)
    after = families(api.client.get("/metrics").text)

    for name in ("candlestep_store_write_seconds", "candlestep_journal_write_seconds"):
        assert values(after[name], "_count") > values(before[name], "_count")
    for name in ("candlestep_open_sessions", "candlestep_sessions_in_memory"):
        assert values(after[name]) > values(before[name])
    assert values(after["candlestep_journal_bytes"]) > values(before["candlestep_journal_bytes"])
    assert values(after["candlestep_store_bytes"])[0] > 1_000_000
    assert values(after["candlestep_workers"]) == [1]
    path = f"{BACKTEST}/{{session_id}}/step/batch"
    requests = after["candlestep_request_duration_seconds"]
    assert values(requests, "_count", method="POST", path=path, status="200")[0] >= 1
