"""Operations on recordings of sessions: run one again and compare, or record its present answers."""

from pathlib import Path
from typing import Any

import msgspec

from candlestep.api.admin.operation import Operation, Report, progress_of
from candlestep.api.replay.local_target import LocalTarget, load_market
from candlestep.api.replay.replay import ReplayResult, re_record, replay
from candlestep.data.journal.recording import read_recording, write_recording
from candlestep.data.store.database import Store


class RunRecording(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The absolute path of the recording to run."""

    path: str


class RecordingSize(msgspec.Struct, frozen=True):
    """The number of lines of the recording that was written."""

    lines: int


def _replay(store: Store, request: RunRecording, report: Report) -> ReplayResult:
    path = Path(request.path)
    recording = read_recording(path)
    target = LocalTarget(recording.start, load_market(store, recording.start))
    return replay(recording, target, progress_of(path.name, "commands", report))


def _record(store: Store, request: RunRecording, report: Report) -> RecordingSize:
    path = Path(request.path)
    recording = read_recording(path)
    target = LocalTarget(recording.start, load_market(store, recording.start))
    lines = re_record(recording, target, progress_of(path.name, "commands", report))
    write_recording(path, lines)
    return RecordingSize(lines.count(b"\n"))


REPLAY = Operation("/admin/replay", "Run a recording again", RunRecording, ReplayResult, _replay)
RECORD = Operation("/admin/record", "Write down a recording", RunRecording, RecordingSize, _record)

OPERATIONS: tuple[Operation[Any, Any], ...] = (REPLAY, RECORD)
