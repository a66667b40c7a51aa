"""The server itself: its health, its metrics, and the range of its data."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from candlestep import __version__
from candlestep.api.http.api import Api
from candlestep.api.http.error_body import ErrorObjectBody
from candlestep.api.http.route import File, Request, Route
from candlestep.api.schemas.fields import Time
from candlestep.api.schemas.response import Response
from candlestep.api.services import Services

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class GapResponse(Response, frozen=True):
    exchange: str
    symbol: str
    start: Time
    end: Time


class DataRangeResponse(Response, frozen=True):
    earliest: Time | None
    latest: Time | None
    total_pairs: int
    intervals_available: list[str]
    data_gaps: list[GapResponse]
    funding_gaps: Annotated[
        list[GapResponse],
        Meta(description="Holes between settlements of perpetuals, of more than 1.5 intervals."),
    ]
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
    return File(_PROMETHEUS, await services.read(services.metrics.text))


async def data_range(services: Services, request: Request) -> DataRangeResponse:
    """Return the times, pairs and intervals on which sessions can be run."""
    data = await services.read(services.catalogue.data_range)
    series = await services.read(services.catalogue.series)
    return DataRangeResponse.of(
        data,
        data_gaps=[GapResponse.of(gap) for gap in data.data_gaps],
        funding_gaps=[GapResponse.of(gap) for gap in data.funding_gaps],
        pairs=sorted({entry.symbol for entry in series}),
        synthetic=any(entry.synthetic for entry in series),
    )


_ROUTES = [
    Route("GET", "/health", health, "Health", access="public"),
    Route("GET", "/metrics", metrics, "Prometheus metrics", access="public"),
    Route("GET", "/api/v1/market/data-range", data_range, "Available data"),
]
API = Api(routes={"server": _ROUTES}, error_body=ErrorObjectBody)
