"""What the server is and has: health, counters, the range of the data, its own description."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from candlestep.api.http.route import Call, Page, Route
from candlestep.api.schemas.fields import Time, optional_time
from candlestep.api.services import Server
from candlestep.api.version import VERSION
from candlestep.sandbox import format_time

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Gap(msgspec.Struct, frozen=True):
    exchange: str
    symbol: str
    start: Time
    end: Time


class DataRangeAnswer(msgspec.Struct, frozen=True):
    earliest: Time | None
    latest: Time | None
    total_pairs: int
    intervals_available: list[str]
    data_gaps: list[Gap]
    pairs: list[str]
    synthetic: Annotated[
        bool, Meta(description="Whether the data, or some of it, is the synthetic sample market.")
    ]


class HealthAnswer(msgspec.Struct, frozen=True):
    status: Literal["ok"]
    version: str
    open_sessions: int


async def health(server: Server, call: Call) -> HealthAnswer:
    """Whether the server answers."""
    return HealthAnswer("ok", VERSION, server.hub.memory.open_sessions)


async def counters(server: Server, call: Call) -> Page:
    """Counters for Prometheus."""
    return Page(_PROMETHEUS, server.counters.text(server.hub.steps_made, server.gauges).encode())


async def data_range(server: Server, call: Call) -> DataRangeAnswer:
    """The times, pairs and intervals that sessions can be run on."""
    found = await server.in_thread(server.catalogue.data_range)
    series = await server.in_thread(server.catalogue.series)
    return DataRangeAnswer(
        optional_time(found.earliest),
        optional_time(found.latest),
        found.total_pairs,
        list(found.intervals_available),
        [
            Gap(hole.exchange, hole.symbol, format_time(hole.start), format_time(hole.end))
            for hole in found.data_gaps
        ],
        sorted({each.symbol for each in series}),
        any(each.synthetic for each in series),
    )


ROUTES = [
    Route("GET", "/health", health, "Health", HealthAnswer, access="public"),
    Route("GET", "/metrics", counters, "Prometheus counters", Page, access="public"),
    Route("GET", "/api/v1/market/data-range", data_range, "What data there is", DataRangeAnswer),
]
