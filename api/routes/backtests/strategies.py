"""Strategies that an account stores under a name, for backtests and jobs to run."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.errors import with_field_names
from candlestep.api.http.route import NoContent, Request, Route
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import IntervalInput, Symbol, Time
from candlestep.api.schemas.raw_json import JsonObject, empty_object, json_object
from candlestep.api.services import Services
from candlestep.data.records.strategies import (
    StoredStrategy,
    StrategyStatus,
    create_strategy,
    delete_strategy,
    get_strategy,
    list_strategies,
    update_strategy,
)
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import InvalidParameter, format_time, interval_name
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
    skip: Annotated[int, Meta(ge=0, le=10**9)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class StrategyResponse(msgspec.Struct, frozen=True):
    id: str
    name: str
    description: str
    universe: list[str]
    timeframe: Annotated[str, Meta(examples=["1d"])]
    pipeline_config: Annotated[dict[str, Any], Meta(description="As it was sent.")]
    status: StrategyStatus
    version: Annotated[int, Meta(description="Counts its changes, from 1.")]
    created_at: Time
    updated_at: Time


async def create(services: Services, request: Request) -> StrategyResponse:
    """Store a strategy; it is checked but not run."""
    body: StrategyRequest = request.body
    stored = await services.in_thread(
        create_strategy,
        services.store,
        request.account_id,
        name=body.name,
        description=body.description,
        universe=_universe(body.universe),
        timeframe=_timeframe(body.timeframe),
        content=_content(body.pipeline_config),
    )
    return _to_response(stored)


async def strategies(services: Services, request: Request) -> list[StrategyResponse]:
    """List the account's strategies, the oldest first."""
    query: PageQuery = request.query
    stored = await services.in_thread(
        list_strategies, services.store, request.account_id, skip=query.skip, limit=query.limit
    )
    return [_to_response(strategy) for strategy in stored]


async def strategy(services: Services, request: Request) -> StrategyResponse:
    """Return one strategy."""
    strategy_id = request.path["strategy_id"]
    stored = await services.in_thread(get_strategy, services.store, request.account_id, strategy_id)
    return _to_response(stored)


async def change(services: Services, request: Request) -> StrategyResponse:
    """Change the fields that are sent, as the next version; existing results stay as they are."""
    body: StrategyChange = request.body
    changed = await services.in_thread(
        update_strategy,
        services.store,
        request.account_id,
        request.path["strategy_id"],
        name=None if body.name is UNSET else body.name,
        description=None if body.description is UNSET else body.description,
        universe=None if body.universe is UNSET else _universe(body.universe),
        timeframe=None if body.timeframe is UNSET else _timeframe(body.timeframe),
        content=None if body.pipeline_config is UNSET else _content(body.pipeline_config),
    )
    return _to_response(changed)


async def delete(services: Services, request: Request) -> NoContent:
    """Delete a strategy; its backtests and their results stay, but cannot be executed again."""
    strategy_id = request.path["strategy_id"]
    await services.in_thread(delete_strategy, services.store, request.account_id, strategy_id)
    return NoContent()


def _universe(symbols: list[str]) -> list[str]:
    return list(dict.fromkeys(normalise_symbol(symbol) for symbol in symbols))


def _timeframe(interval: str | int) -> str:
    return interval_name(parse_interval(interval, "timeframe"))


def _content(raw: msgspec.Raw) -> dict[str, Any]:
    """Return the content as it was sent, checked."""
    content = json_object(raw, "pipeline_config")
    if content:
        try:
            compile_strategy(content)
        except InvalidParameter as refusal:
            raise with_field_names(refusal, {}, within="pipeline_config.") from None
    return content


def _to_response(stored: StoredStrategy) -> StrategyResponse:
    return StrategyResponse(
        stored.strategy_id,
        stored.name,
        stored.description,
        stored.universe,
        stored.timeframe,
        stored.content,
        stored.status,
        stored.version,
        format_time(stored.created_at),
        format_time(stored.updated_at),
    )


_UNKNOWN = ("STRATEGY_NOT_FOUND",)

ROUTES = [
    Route(
        "POST", _BASE, create, "Keep a strategy", StrategyResponse, body=StrategyRequest, status=201
    ),
    Route("GET", _BASE, strategies, "List strategies", list[StrategyResponse], query=PageQuery),
    Route(
        "GET", f"{_BASE}/{{strategy_id}}", strategy, "One strategy", StrategyResponse,
        errors=_UNKNOWN,
    ),
    Route(
        "PATCH", f"{_BASE}/{{strategy_id}}", change, "Change a strategy", StrategyResponse,
        body=StrategyChange, errors=_UNKNOWN,
    ),
    Route(
        "DELETE", f"{_BASE}/{{strategy_id}}", delete, "Delete a strategy", NoContent, status=204,
        errors=_UNKNOWN,
    ),
]  # fmt: skip
