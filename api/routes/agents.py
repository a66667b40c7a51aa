"""Agents and their risk profiles."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.http.api import Api
from candlestep.api.http.route import Request, Route
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import Percent, Time, optional_money
from candlestep.api.schemas.results import RiskResponse
from candlestep.api.services import Services
from candlestep.data.records.accounts import (
    Agent,
    create_agent,
    delete_agent,
    get_agent,
    list_agents,
    update_agent,
)
from candlestep.sandbox import RiskProfile, format_time

_BASE = "/api/v1/agents"
_LIMITS = RiskProfile.__struct_fields__


class RiskRequest(RequestBody):
    max_order_size_pct: Percent | None = None
    max_position_size_pct: Percent | None = None
    daily_loss_limit_pct: Percent | None = None


class RiskChange(RequestBody):
    max_order_size_pct: Percent | UnsetType | None = UNSET
    max_position_size_pct: Percent | UnsetType | None = UNSET
    daily_loss_limit_pct: Percent | UnsetType | None = UNSET


class AgentRequest(RequestBody):
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    risk_profile: RiskRequest | None = None


class AgentChange(RequestBody):
    name: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET
    risk_profile: Annotated[
        RiskChange | UnsetType,
        Meta(description="The limits to change. Null removes one; those left out stay."),
    ] = UNSET


class AgentResponse(msgspec.Struct, frozen=True):
    agent_id: str
    name: str
    risk_profile: RiskResponse
    created_at: Time


class AgentsResponse(msgspec.Struct, frozen=True):
    agents: list[AgentResponse]
    total: int


async def create(services: Services, request: Request) -> AgentResponse:
    """Create an agent with a risk profile; each session of the agent gets a copy of it."""
    body: AgentRequest = request.body
    profile = _profile(body.risk_profile)
    created = await services.in_thread(
        create_agent, services.store, request.account_id, body.name, profile
    )
    return _to_response(created)


async def agents(services: Services, request: Request) -> AgentsResponse:
    """List the account's agents, the default one first."""
    records = await services.in_thread(list_agents, services.store, request.account_id)
    return AgentsResponse([_to_response(record) for record in records], len(records))


async def agent(services: Services, request: Request) -> AgentResponse:
    """Return one agent."""
    agent_id = request.path["agent_id"]
    return _to_response(
        await services.in_thread(get_agent, services.store, request.account_id, agent_id)
    )


async def change(services: Services, request: Request) -> AgentResponse:
    """Change the name or some limits (null removes one); existing sessions keep theirs."""
    body: AgentChange = request.body
    changed = await services.in_thread(
        update_agent,
        services.store,
        request.account_id,
        request.path["agent_id"],
        name=None if body.name is UNSET else body.name,
        risk_profile=None if body.risk_profile is UNSET else _changes(body.risk_profile),
    )
    return _to_response(changed)


async def delete(services: Services, request: Request) -> AgentResponse:
    """Delete an agent, and return it as it was; its sessions stay."""
    agent_id = request.path["agent_id"]
    deleted = await services.in_thread(get_agent, services.store, request.account_id, agent_id)
    await services.in_thread(delete_agent, services.store, request.account_id, agent_id)
    return _to_response(deleted)


def _profile(body: RiskRequest | None) -> Mapping[str, Any]:
    """Return all limits as they are stored: text, or None; raises ``InvalidParameter``."""
    return _stored_limits({name: getattr(body, name, None) for name in _LIMITS})


def _changes(body: RiskChange) -> Mapping[str, Any]:
    """Return the limits that the body names, as they are stored."""
    limits = {name: getattr(body, name) for name in _LIMITS}
    return _stored_limits({name: limit for name, limit in limits.items() if limit is not UNSET})


def _stored_limits(limits: Mapping[str, Any]) -> dict[str, str | None]:
    profile = RiskProfile(**limits)
    return {name: optional_money(getattr(profile, name)) for name in limits}


def _to_response(agent: Agent) -> AgentResponse:
    profile = RiskResponse.of(agent.risk_profile)
    return AgentResponse(agent.agent_id, agent.name, profile, format_time(agent.created_at))


_UNKNOWN = ("AGENT_NOT_FOUND",)

_ROUTES = [
    Route("POST", _BASE, create, "Create an agent", AgentResponse, body=AgentRequest, status=201),
    Route("GET", _BASE, agents, "List agents", AgentsResponse),
    Route("GET", f"{_BASE}/{{agent_id}}", agent, "Get an agent", AgentResponse, errors=_UNKNOWN),
    Route(
        "PATCH", f"{_BASE}/{{agent_id}}", change, "Change an agent", AgentResponse,
        body=AgentChange, errors=_UNKNOWN,
    ),
    Route(
        "DELETE", f"{_BASE}/{{agent_id}}", delete, "Delete an agent", AgentResponse,
        errors=(*_UNKNOWN, "INVALID_STATE"),
    ),
]  # fmt: skip
API = Api(routes={"agents": _ROUTES})
