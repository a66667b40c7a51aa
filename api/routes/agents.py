"""Agents and their risk profiles."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import asdict

from candlestep.api.http.api import Api
from candlestep.api.http.error_body import ErrorObjectBody
from candlestep.api.http.route import Request, Route
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import Time, number_schema, optional_money
from candlestep.api.schemas.response import Response
from candlestep.api.schemas.results import RiskResponse
from candlestep.api.services import Services
from candlestep.data.records import accounts
from candlestep.sandbox import LeveragedRiskProfile

_BASE = "/api/v1/agents"


Limit = Annotated[
    Any,
    number_schema(10, minimum=0, maximum=LeveragedRiskProfile.most_percent),
    Meta(
        description="In percent; above 100 for perpetuals alone, whose orders are measured by their"
        " notional."
    ),
]


class RiskRequest(RequestBody):
    max_order_size_pct: Limit | None = None
    max_position_size_pct: Limit | None = None
    daily_loss_limit_pct: Limit | None = None


class RiskChange(RequestBody):
    max_order_size_pct: Limit | UnsetType | None = UNSET
    max_position_size_pct: Limit | UnsetType | None = UNSET
    daily_loss_limit_pct: Limit | UnsetType | None = UNSET


class AgentRequest(RequestBody):
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    risk_profile: RiskRequest | None = None


class AgentChange(RequestBody):
    name: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET
    risk_profile: Annotated[
        RiskChange | UnsetType,
        Meta(description="The limits to change. Null removes one; those left out stay."),
    ] = UNSET


class AgentResponse(Response, frozen=True):
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
    profile = _stored(body.risk_profile or RiskRequest())
    agent = await services.for_account(accounts.create_agent, request, body.name, profile)
    return _to_response(agent)


async def agents(services: Services, request: Request) -> AgentsResponse:
    """List the account's agents, the default one first."""
    listed = await services.read_for_account(accounts.list_agents, request)
    return AgentsResponse([_to_response(agent) for agent in listed], len(listed))


async def agent(services: Services, request: Request) -> AgentResponse:
    """Return one agent."""
    return _to_response(await services.read_record(accounts.get_agent, request, "agent_id"))


async def change(services: Services, request: Request) -> AgentResponse:
    """Change the name or some limits (null removes one); existing sessions keep theirs."""
    body: AgentChange = request.body
    changed = await services.on_record(
        accounts.update_agent,
        request,
        "agent_id",
        name=None if body.name is UNSET else body.name,
        risk_profile=None if body.risk_profile is UNSET else _stored(body.risk_profile),
    )
    return _to_response(changed)


async def delete(services: Services, request: Request) -> AgentResponse:
    """Delete an agent, and return it as it was; its sessions stay."""
    agent = await services.read_record(accounts.get_agent, request, "agent_id")
    await services.on_record(accounts.delete_agent, request, "agent_id")
    return _to_response(agent)


def _stored(limits: RiskRequest | RiskChange) -> dict[str, str | None]:
    """Return the limits that a request names as they are stored; raise ``InvalidParameter``."""
    named = {name: limit for name, limit in asdict(limits).items() if limit is not UNSET}
    profile = LeveragedRiskProfile(**named)
    return {name: optional_money(getattr(profile, name)) for name in named}


def _to_response(agent: accounts.Agent) -> AgentResponse:
    return AgentResponse.of(agent, risk_profile=RiskResponse.of(agent.risk_profile))


_ONE = f"{_BASE}/{{agent_id}}"
_UNKNOWN = ("AGENT_NOT_FOUND",)

_ROUTES = [
    Route("POST", _BASE, create, "Create an agent", body=AgentRequest, status=201),
    Route("GET", _BASE, agents, "List agents"),
    Route("GET", _ONE, agent, "Get an agent", errors=_UNKNOWN),
    Route("PATCH", _ONE, change, "Change an agent", body=AgentChange, errors=_UNKNOWN),
    Route("DELETE", _ONE, delete, "Delete an agent", errors=(*_UNKNOWN, "INVALID_STATE")),
]
API = Api(routes={"agents": _ROUTES}, error_body=ErrorObjectBody)
