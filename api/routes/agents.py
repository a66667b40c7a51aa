"""Agents and their risk profiles."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from candlestep.api.http.route import Call, Route
from candlestep.api.schemas.fields import Time, optional_money
from candlestep.api.schemas.requests import AgentBody, AgentChange, RiskBody, RiskChange
from candlestep.api.schemas.results import RiskAnswer
from candlestep.api.services import Server
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


class AgentAnswer(msgspec.Struct, frozen=True):
    agent_id: str
    name: str
    risk_profile: RiskAnswer
    created_at: Time


class AgentsAnswer(msgspec.Struct, frozen=True):
    agents: list[AgentAnswer]
    total: int


async def create(server: Server, call: Call) -> AgentAnswer:
    """Make an agent with a risk profile; sessions of the agent take a copy of it."""
    body: AgentBody = call.body
    profile = _profile(body.risk_profile)
    made = await server.in_thread(create_agent, server.store, call.account_id, body.name, profile)
    return _answer(made)


async def agents(server: Server, call: Call) -> AgentsAnswer:
    """The account's agents, the default one first."""
    found = await server.in_thread(list_agents, server.store, call.account_id)
    return AgentsAnswer([_answer(agent) for agent in found], len(found))


async def agent(server: Server, call: Call) -> AgentAnswer:
    """One agent."""
    agent_id = call.path["agent_id"]
    return _answer(await server.in_thread(get_agent, server.store, call.account_id, agent_id))


async def change(server: Server, call: Call) -> AgentAnswer:
    """Change the name or some limits (null lifts one); sessions that exist keep theirs."""
    body: AgentChange = call.body
    changed = await server.in_thread(
        update_agent,
        server.store,
        call.account_id,
        call.path["agent_id"],
        name=None if body.name is UNSET else body.name,
        risk_profile=None if body.risk_profile is UNSET else _changes(body.risk_profile),
    )
    return _answer(changed)


async def delete(server: Server, call: Call) -> AgentAnswer:
    """Delete an agent, and answer with what it was; its sessions stay."""
    agent_id = call.path["agent_id"]
    deleted = await server.in_thread(get_agent, server.store, call.account_id, agent_id)
    await server.in_thread(delete_agent, server.store, call.account_id, agent_id)
    return _answer(deleted)


def _profile(body: RiskBody | None) -> Mapping[str, Any]:
    """All limits as they are stored: text, or None; raises ``InvalidParameter``."""
    return _stored({name: getattr(body, name, None) for name in _LIMITS})


def _changes(body: RiskChange) -> Mapping[str, Any]:
    """The limits that are named, as they are stored."""
    given = {name: getattr(body, name) for name in _LIMITS}
    return _stored({name: limit for name, limit in given.items() if limit is not UNSET})


def _stored(given: Mapping[str, Any]) -> dict[str, str | None]:
    checked = RiskProfile(**given)
    limits = {name: getattr(checked, name) for name in given}
    return {name: optional_money(limit) for name, limit in limits.items()}


def _answer(agent: Agent) -> AgentAnswer:
    profile = RiskAnswer.of(agent.risk_profile)
    return AgentAnswer(agent.agent_id, agent.name, profile, format_time(agent.created_at))


_UNKNOWN = ("AGENT_NOT_FOUND",)

ROUTES = [
    Route("POST", _BASE, create, "Make an agent", AgentAnswer, body=AgentBody, status=201),
    Route("GET", _BASE, agents, "List agents", AgentsAnswer),
    Route("GET", f"{_BASE}/{{agent_id}}", agent, "One agent", AgentAnswer, errors=_UNKNOWN),
    Route(
        "PATCH", f"{_BASE}/{{agent_id}}", change, "Change an agent", AgentAnswer,
        body=AgentChange, errors=_UNKNOWN,
    ),
    Route(
        "DELETE", f"{_BASE}/{{agent_id}}", delete, "Delete an agent", AgentAnswer,
        errors=(*_UNKNOWN, "INVALID_STATE"),
    ),
]  # fmt: skip
