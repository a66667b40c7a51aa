"""Datasets: the candles that a run can name."""

from typing import Annotated

import msgspec
from msgspec import Meta

from candlestep.api.http.route import Request, Route
from candlestep.api.schemas.fields import Time
from candlestep.api.schemas.response import Response
from candlestep.api.services import Services
from candlestep.data.market.datasets import list_datasets
from candlestep.sandbox import interval_name


class DatasetItem(Response, frozen=True):
    dataset_id: str
    exchange: str
    symbols: list[str]
    interval: str
    start: Annotated[Time, Meta(description="The first candle opens.")]
    end: Annotated[Time, Meta(description="The last candle is complete.")]
    candles: int


class DatasetsResponse(msgspec.Struct, frozen=True):
    success: Annotated[bool, Meta(extra_json_schema={"const": True})]
    data: list[DatasetItem]


async def datasets(services: Services, request: Request) -> DatasetsResponse:
    """List the datasets: each year of each symbol, at each interval that its candles give."""
    series = await services.read(services.catalogue.series)
    listed = await services.read(list_datasets, series)
    items = [
        DatasetItem.of(dataset, symbols=[dataset.symbol], interval=interval_name(dataset.interval))
        for dataset in listed
    ]
    return DatasetsResponse(True, items)


ROUTES = [Route("GET", "/api/v2/backtest/datasets", datasets, "Datasets")]
