"""The server itself: its health, its metrics, and the range of its data."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from candlestep import __version__
from candlestep.api.http.api import Api
from candlestep.api.http.route import File, Request, Route
from candlestep.api.schemas.fields import Time, optional_time
from candlestep.api.services import Services
from candlestep.sandbox import format_time

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class GapResponse(msgspec.Struct, frozen=True):
    exchange: str
    symbol: str
    start: Time
    end: Time


class DataRangeResponse(msgspec.Struct, frozen=True):
    earliest: Time | None
    latest: Time | None
    total_pairs: int
    intervals_available: list[str]
    data_gaps: list[GapResponse]
    pairs: list[str]
    synthetic: Annotated[
        bool, Meta(description="Whether any of the data is the synthetic sample market.")
    ]


class HealthResponse(msgspec.Struct, frozen=True):
    status: Literal["ok"]
    version: str
    open_sessions: int


async def health(services: Services, request: Request) -> HealthResponse:
    """Return that the server answers, its version, and the number of open sessions."""
    return HealthResponse("ok", __version__, services.sessions.pool.open_count)


async def metrics(services: Services, request: Request) -> File:
    """Return metrics for Prometheus: requests, writes, sessions, jobs, workers and sizes."""
    return File(_PROMETHEUS, await services.in_thread(services.metrics.text))


async def data_range(services: Services, request: Request) -> DataRangeResponse:
    """Return the times, pairs and intervals on which sessions can be run."""
    data = await services.in_thread(services.catalogue.data_range)
    series = await services.in_thread(services.catalogue.series)
    return DataRangeResponse(
        optional_time(data.earliest),
        optional_time(data.latest),
        data.total_pairs,
        list(data.intervals_available),
        [
            GapResponse(gap.exchange, gap.symbol, format_time(gap.start), format_time(gap.end))
            for gap in data.data_gaps
        ],
        sorted({entry.symbol for entry in series}),
        any(entry.synthetic for entry in series),
    )


_ROUTES = [
    Route("GET", "/health", health, "Health", HealthResponse, access="public"),
    Route("GET", "/metrics", metrics, "Prometheus metrics", File, access="public"),
    Route("GET", "/api/v1/market/data-range", data_range, "Available data", DataRangeResponse),
]
API = Api(routes={"server": _ROUTES})
