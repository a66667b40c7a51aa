"""The server without its journal: the baseline that the journal's cost is measured against.

Run as ``python -m tests.benchmarks.without_journal serve --home HOME …``.
"""

import sys
from typing import Any

import msgspec

from candlestep.api.schemas.steps import StepTexts
from candlestep.api.server.process import serve
from candlestep.api.sessions.commands import SessionRef
from candlestep.api.sessions.host import SessionHost
from candlestep.api.sessions.player import Reply
from candlestep.api.settings import Settings

_encode = msgspec.json.Encoder().encode


class UnjournaledHost(SessionHost):
    """A host whose single steps are neither digested nor written to a journal."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._texts: dict[str, StepTexts] = {}

    def try_step(self, ref: SessionRef, steps: int = 1, holder: str | None = None) -> Reply | None:
        """Make steps, without a trace of them."""
        hosted = self.pool.get(ref)
        if hosted is None or hosted.lock.locked():
            return None
        step = hosted.session.step(steps)
        self.steps_made += step.steps_executed
        texts = self._texts.get(ref.session_id)
        if texts is None:
            texts = self._texts[ref.session_id] = StepTexts(hosted.session)
        return Reply(_encode(texts.answer(step)))


if __name__ == "__main__":
    words = sys.argv[2:]
    flags = dict(zip(words[::2], words[1::2], strict=True))
    serve(
        Settings.from_environment(
            **{flag.removeprefix("--"): text for flag, text in flags.items()}
        ),
        UnjournaledHost,
    )
