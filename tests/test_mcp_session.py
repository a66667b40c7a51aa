"""The transcript of a session traded by tools: each call gives the answer that is written there."""

import asyncio
from pathlib import Path

from tests.support.api_client import sample_home
from tests.support.transcript import answers_now, written_calls


def test_every_call_of_the_transcript_gives_the_answer_that_is_written(tmp_path: Path) -> None:
    """`make examples` writes the answers anew."""
    expected = [call.answer for call in written_calls()]
    assert len(expected) > 10
    assert asyncio.run(answers_now(sample_home(tmp_path / "home"))) == expected
