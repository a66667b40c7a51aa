"""Operations on recordings of sessions: run one again and compare, or record its present answers."""

from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from candlestep.api.admin.operation import OpenHome, Operation, Report, progress_of
from candlestep.api.replay.bounds import require_bounds
from candlestep.api.replay.candle_comparison import compare_candles
from candlestep.api.replay.difference import ReplayResult
from candlestep.api.replay.local_target import LocalTarget, load_market, local_session
from candlestep.api.replay.replay import re_record, replay
from candlestep.api.settings import Settings
from candlestep.data.imports.process.file_reader import FileReader
from candlestep.data.imports.reading import NO_OPTIONS
from candlestep.data.imports.series import ReadSeries
from candlestep.data.journal.recording import read_recording, read_start, write_recording


class ReplayRecording(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The absolute path of a recording to compare, and how."""

    path: str
    find_all: bool = False
    """Find every difference instead of the first."""
    candles: str | None = None
    """The absolute path of a file with the candles that it was recorded on."""


class RecordAnswers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The absolute path of a recording to write today's answers into."""

    path: str


class RecordingSize(msgspec.Struct, frozen=True):
    """The number of lines of the recording that was written."""

    lines: int


def _replay(home: OpenHome, request: ReplayRecording, report: Report) -> ReplayResult:
    path = Path(request.path)
    recording = read_recording(path, progress_of(path.name, "bytes", report))
    start = recording.start
    recorded = load_market(home.store, home.load_parts, start)
    open_target = partial(local_session, start, recorded)
    progress = progress_of(path.name, "commands", report)
    result = replay(recording, open_target, progress, find_all=request.find_all)
    if request.candles is None:
        return result
    file = Path(request.candles)
    with FileReader(home.store.path.parent) as reader:
        contents, _ = reader.read(file, NO_OPTIONS, progress_of(file.name, "rows", report))
    # Mark prices, funding rates and margin tiers are no candles.
    series = [one for one in contents if isinstance(one, ReadSeries) and one.kind == "candles"]
    return compare_candles(result, start, recorded.market, file.name, series)


def _record(home: OpenHome, request: RecordAnswers, report: Report) -> RecordingSize:
    path = Path(request.path)
    recording = read_recording(path, progress_of(path.name, "bytes", report))
    recorded = load_market(home.store, home.load_parts, recording.start)
    target = LocalTarget(recording.start, recorded)
    lines = re_record(recording, target, progress_of(path.name, "commands", report))
    write_recording(path, lines)
    return RecordingSize(lines.count(b"\n"))


def _check(request: ReplayRecording | RecordAnswers, bounds: Settings, report: Report) -> None:
    require_bounds(read_start(Path(request.path)), bounds)


REPLAY = Operation(
    "/admin/replay", "Run a recording again", ReplayRecording, ReplayResult, _replay, _check
)
RECORD = Operation(
    "/admin/record", "Write down a recording", RecordAnswers, RecordingSize, _record, _check
)

OPERATIONS: tuple[Operation[Any, Any], ...] = (REPLAY, RECORD)
