"""Strategies that an account stores under a name, for backtests and jobs to run."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import asdict

from candlestep.api.errors import with_field_names
from candlestep.api.http.route import NoContent, Request, Route
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import IntervalInput, PageSize, PageStart, Symbol, Time
from candlestep.api.schemas.raw_json import JsonObject, empty_object, json_object
from candlestep.api.schemas.response import Response
from candlestep.api.services import Services
from candlestep.data.records import strategies as records
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import InvalidParameter, interval_name
from candlestep.sandbox.clock import parse_interval
from candlestep.sandbox.strategies import compile_strategy

_BASE = "/api/v1/strategies"

StrategyName = Annotated[str, Meta(min_length=1, max_length=200)]
Description = Annotated[str, Meta(max_length=10_000)]
Universe = Annotated[
    list[Symbol], Meta(max_length=100, description="The symbols that it is meant for.")
]
Pipeline = Annotated[
    JsonObject,
    Meta(
        description="The strategy: a card, `{template, parameters}` (see"
        " `GET /api/v1/strategy-templates`), or `{source}`. Empty: none yet."
    ),
]


class StrategyRequest(RequestBody):
    name: StrategyName
    description: Description = ""
    universe: Universe = msgspec.field(default_factory=list)
    timeframe: IntervalInput = "1d"
    pipeline_config: Pipeline = msgspec.field(default_factory=empty_object)


class StrategyChange(RequestBody):
    name: StrategyName | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    universe: Universe | UnsetType = UNSET
    timeframe: IntervalInput | UnsetType = UNSET
    pipeline_config: Pipeline | UnsetType = UNSET


class PageQuery(RequestBody):
    skip: PageStart = 0
    limit: PageSize = 100


class StrategyResponse(Response, frozen=True):
    id: str
    name: str
    description: str
    universe: list[str]
    timeframe: Annotated[str, Meta(examples=["1d"])]
    pipeline_config: Annotated[dict[str, Any], Meta(description="As it was sent.")]
    status: records.StrategyStatus
    version: Annotated[int, Meta(description="Counts its changes, from 1.")]
    created_at: Time
    updated_at: Time


async def create(services: Services, request: Request) -> StrategyResponse:
    """Store a strategy; it is checked but not run."""
    fields = _checked(request.body)
    stored = await services.for_account(records.create_strategy, request, **fields)
    return _to_response(stored)


async def strategies(services: Services, request: Request) -> list[StrategyResponse]:
    """List the account's strategies, the oldest first."""
    stored = await services.read_for_account(
        records.list_strategies, request, **asdict(request.query)
    )
    return [_to_response(strategy) for strategy in stored]


async def strategy(services: Services, request: Request) -> StrategyResponse:
    """Return one strategy."""
    return _to_response(await services.read_record(records.get_strategy, request, "strategy_id"))


async def change(services: Services, request: Request) -> StrategyResponse:
    """Change the fields that are sent, as the next version; existing results stay as they are."""
    fields = _checked(request.body)
    return _to_response(
        await services.on_record(records.update_strategy, request, "strategy_id", **fields)
    )


async def delete(services: Services, request: Request) -> NoContent:
    """Delete a strategy; its backtests and their results stay, but cannot be executed again."""
    await services.on_record(records.delete_strategy, request, "strategy_id")
    return NoContent()


def _checked(body: StrategyRequest | StrategyChange) -> dict[str, Any]:
    """Return the fields that a request sends, as arguments of the functions that store them."""
    fields = {name: sent for name, sent in asdict(body).items() if sent is not UNSET}
    if "universe" in fields:
        fields["universe"] = list(dict.fromkeys(map(normalise_symbol, fields["universe"])))
    if "timeframe" in fields:
        fields["timeframe"] = interval_name(parse_interval(fields["timeframe"], "timeframe"))
    if "pipeline_config" in fields:
        fields["content"] = _content(fields.pop("pipeline_config"))
    return fields


def _content(raw: msgspec.Raw) -> dict[str, Any]:
    """Return the content as it was sent, checked."""
    content = json_object(raw, "pipeline_config")
    if content:
        try:
            compile_strategy(content)
        except InvalidParameter as refusal:
            raise with_field_names(refusal, {}, within="pipeline_config.") from None
    return content


def _to_response(stored: records.StoredStrategy) -> StrategyResponse:
    return StrategyResponse.of(stored, id=stored.strategy_id, pipeline_config=stored.content)


_ONE = f"{_BASE}/{{strategy_id}}"
_UNKNOWN = ("STRATEGY_NOT_FOUND",)

ROUTES = [
    Route("POST", _BASE, create, "Keep a strategy", body=StrategyRequest, status=201),
    Route("GET", _BASE, strategies, "List strategies", query=PageQuery),
    Route("GET", _ONE, strategy, "One strategy", errors=_UNKNOWN),
    Route("PATCH", _ONE, change, "Change a strategy", body=StrategyChange, errors=_UNKNOWN),
    Route("DELETE", _ONE, delete, "Delete a strategy", status=204, errors=_UNKNOWN),
]
