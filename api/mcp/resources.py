"""Resources: the rules of the simulation, what strategies are made of, and sessions."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from candlestep import sandbox
from candlestep.api.errors import Forbidden, NotFound
from candlestep.api.mcp.arguments import OfSession
from candlestep.api.mcp.caller import CALLER
from candlestep.api.mcp.calls import observing
from candlestep.api.services import Services
from candlestep.api.sessions.commands import SessionRef
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.indicators.indicators import KINDS
from candlestep.sandbox.strategies import TEMPLATES

MARKDOWN = "text/markdown"
JSON = "application/json"
_SECTIONS = ("Time", "Orders", "Money", "Fees", "Slippage", "Risk limits")
_SESSION = re.compile(r"candlestep://session/([^/]{1,200})(/recording)?")


class Resource(NamedTuple):
    """A resource that is the same for every caller."""

    name: str
    description: str
    media_type: str
    read: Callable[[], str]


class ResourceTemplate(NamedTuple):
    """A kind of resources that are named by the id of a session."""

    name: str
    description: str
    media_type: str


def _rules() -> str:
    text = (Path(sandbox.__file__).parent / "README.md").read_text(encoding="utf-8")
    sections = text.split("\n## ")
    kept = [section for section in sections if section.partition("\n")[0] in _SECTIONS]
    return "## " + "\n## ".join(kept)


def _indicators() -> str:
    lines = []
    for kind in KINDS.values():
        parameters = "".join(f":{parameter.name}" for parameter in kind.parameters)
        defaults = "".join(f":{parameter.default:g}" for parameter in kind.parameters)
        outputs = f"; gives {', '.join(kind.outputs)}" if kind.outputs else ""
        lines.append(
            f"- `{kind.name}{parameters}` (`{kind.name}{defaults}`): {kind.description}{outputs}"
        )
    return "\n".join(lines)


def _templates() -> str:
    described = [
        {
            "template": template.id,
            "description": template.description,
            "parameters": template.schema(),
            "one_symbol": template.is_of_one_symbol,
        }
        for template in TEMPLATES.values()
    ]
    return msgspec.json.encode(described).decode()


RESOURCES = {
    "candlestep://rules": Resource(
        "rules", "How time passes, orders fill, and what they cost.", MARKDOWN, _rules
    ),
    "candlestep://indicators": Resource(
        "indicators", "The indicators of observe and of strategies.", MARKDOWN, _indicators
    ),
    "candlestep://templates": Resource(
        "templates", "The strategies that run_strategy knows by name.", JSON, _templates
    ),
}
"""By URI."""

RESOURCE_TEMPLATES = {
    "candlestep://session/{id}": ResourceTemplate(
        "session", "The account of a session now.", "text/plain"
    ),
    "candlestep://session/{id}/recording": ResourceTemplate(
        "recording",
        "Every command of a session and its reply, as lines of JSON.",
        "application/x-ndjson",
    ),
}
"""By URI template."""


async def read_resource(services: Services, uri: str) -> tuple[str, str]:
    """Return the media type and the text of a resource; raises ``NotFound`` and as sessions do."""
    resource = RESOURCES.get(uri)
    if resource is not None:
        return resource.media_type, await services.read(resource.read)
    match = _SESSION.fullmatch(uri)
    if match is None:
        known = ", ".join([*RESOURCES, *RESOURCE_TEMPLATES])
        raise NotFound(f"there is no resource {abbreviate(uri)}; there are {known}")
    session_id, is_recording = match.groups()
    read: Callable[[Services, str], Awaitable[str]] = _recording if is_recording else _session
    name = "recording" if is_recording else "session"
    media_type = next(t.media_type for t in RESOURCE_TEMPLATES.values() if t.name == name)
    return media_type, await read(services, session_id)


async def _session(services: Services, session_id: str) -> str:
    return (await observing.account(services, OfSession(session_id))).text()


async def _recording(services: Services, session_id: str) -> str:
    if CALLER.get().session_id is not None:
        raise Forbidden("the recording of a session is for its owner")
    ref = SessionRef(CALLER.get().account_id, session_id)
    return (await services.sessions.recording(ref)).decode()
