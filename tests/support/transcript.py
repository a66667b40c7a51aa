"""The transcript of a session traded by tools: its calls, and what they answer now."""

import asyncio
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.api_client import sample_home
from tests.support.project import ROOT
from tests.support.tools import tools_of

TRANSCRIPT = ROOT / "examples" / "mcp_session.md"
_CALL = re.compile(r"```text\n> (\w+)(?: (\{[^\n]*\}))?\n(.*?)```\n", re.DOTALL)
_ID = re.compile(r"\b(?:bt|mcp)_[0-9a-f-]{32,36}\b")


class Call(NamedTuple):
    """A call of the transcript, and the answer that is written there."""

    tool: str
    arguments: dict[str, Any]
    answer: str


def written_calls() -> Iterator[Call]:
    for tool, arguments, answer in _CALL.findall(TRANSCRIPT.read_text()):
        yield Call(tool, json.loads(arguments or "{}"), answer.rstrip("\n"))


async def answers_now(home: Path) -> list[str]:
    """Return what the calls of the transcript answer now, with ids numbered as they appear."""
    numbers: dict[str, str] = {}

    def numbered(match: re.Match[str]) -> str:
        return numbers.setdefault(match[0], f"<id {len(numbers) + 1}>")

    found = []
    async with tools_of(home) as tools:
        for call in written_calls():
            written = json.dumps(call.arguments)
            for name, shown in numbers.items():
                written = written.replace(shown, name)
            answer = await tools.call(call.tool, json.loads(written))
            found.append(_ID.sub(numbered, answer.text))
    return found


def rewrite() -> None:
    """Write the answers of now into the transcript, with the calls as they stand."""
    with tempfile.TemporaryDirectory() as directory:
        found = iter(asyncio.run(answers_now(sample_home(Path(directory)))))

    def rewritten(match: re.Match[str]) -> str:
        tool, arguments, _ = match.groups()
        call = f"{tool} {arguments}" if arguments else tool
        return f"```text\n> {call}\n{next(found)}\n```\n"

    TRANSCRIPT.write_text(_CALL.sub(rewritten, TRANSCRIPT.read_text()))
