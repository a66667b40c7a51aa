"""The metrics of a server, in Prometheus's text format."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

REQUEST_BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
    10, 30,
)  # fmt: skip
"""Upper bounds of the latency of requests, in seconds."""
WRITE_BUCKETS = REQUEST_BUCKETS[:-2]

_BOUND_TEXTS = (*map(str, map(float, REQUEST_BUCKETS)), "+Inf")


class Reading(NamedTuple):
    """The present value of a metric, or its value by label."""

    name: str
    help: str
    value: float | Mapping[str, float]
    label: str = ""
    """The name of the label."""
    kind: Literal["gauge", "counter"] = "gauge"


class Metrics:
    """The metrics of one server."""

    def __init__(self, readings: Callable[[], Iterable[Reading]]) -> None:
        """Call ``readings`` whenever the metrics are read."""
        self._registry = CollectorRegistry()
        self.requests = RequestMetrics()
        self._registry.register(self.requests)
        self._registry.register(_Readings(readings))

    def histogram(self, name: str, description: str) -> Callable[[float], None]:
        """Add a histogram of seconds; return the function that notes a duration, in any thread."""
        histogram = Histogram(name, description, buckets=WRITE_BUCKETS, registry=self._registry)
        return histogram.observe

    def text(self) -> bytes:
        """Return all metrics. Takes milliseconds, and what ``readings`` takes."""
        return generate_latest(self._registry)


class RequestMetrics(Collector):
    """The number and the latency of requests, by method, path and status.

    Noting a request is on the path of every step, so it is a look-up and an addition. The library's
    own histogram, with its locks and labels, costs several times that.
    """

    def __init__(self) -> None:
        self._latencies: dict[tuple[str, str, int], _Latencies] = {}

    def note(self, method: str, path: str, status: int, seconds: float) -> None:
        """Note one request to the route ``path``. Call it on the event loop."""
        labels = (method, path, status)
        latencies = self._latencies.get(labels)
        if latencies is None:
            latencies = self._latencies[labels] = _Latencies()
        latencies.counts[bisect_left(REQUEST_BUCKETS, seconds)] += 1
        latencies.seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of all requests, in any thread."""
        names = ("method", "path", "status")
        total = CounterMetricFamily("candlestep_requests_total", "Requests answered.", labels=names)
        durations = HistogramMetricFamily(
            "candlestep_request_duration_seconds",
            "Time from the head of a request to the end of its answer.",
            labels=names,
        )
        seconds: dict[tuple[str, str], float] = {}
        for (method, path, status), latencies in sorted(self._latencies.items()):
            labels = (method, path, str(status))
            counts = list(accumulate(latencies.counts))
            total.add_metric(labels, counts[-1])
            buckets = list(zip(_BOUND_TEXTS, counts, strict=True))
            durations.add_metric(labels, buckets, latencies.seconds)
            seconds[method, path] = seconds.get((method, path), 0.0) + latencies.seconds
        sums = CounterMetricFamily(
            "candlestep_request_seconds_total", "Time spent on requests.", labels=names[:2]
        )
        for path_labels, value in seconds.items():
            sums.add_metric(path_labels, value)
        yield from (total, durations, sums)


class _Latencies:
    """The latencies of the requests that have the same labels."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * len(_BOUND_TEXTS)
        """The requests in each bucket, the slower ones last."""
        self.seconds = 0.0


class _Readings(Collector):
    def __init__(self, readings: Callable[[], Iterable[Reading]]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        for reading in self._readings():
            family = CounterMetricFamily if reading.kind == "counter" else GaugeMetricFamily
            if isinstance(reading.value, Mapping):
                metric = family(reading.name, reading.help, labels=[reading.label])
                for label, value in reading.value.items():
                    metric.add_metric([label], value)
            else:
                metric = family(reading.name, reading.help, value=reading.value)
            yield metric
