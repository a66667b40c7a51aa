"""Compaction: each run of equal steps in which nothing happened becomes one record."""

import re
from collections.abc import Iterable, Iterator

import msgspec

from candlestep.data.journal.recording import encoded, records_of
from candlestep.data.journal.records import (
    AnswerRecord,
    CancelOrderRecord,
    ForkRecord,
    Record,
    StepRecord,
)

_QUIET = rb'\{"do":"step","steps":%s,"at": *[0-9]+,"digest":"[0-9a-f]{16}","crc":"[0-9a-f]{8}"\}\n'
_QUIET_RUN = re.compile(_QUIET % b"([0-9]+)" + rb"(?:" + _QUIET % rb"\1" + rb"){2,}")


def collapsed(lines: bytes) -> bytes:
    """The same lines with each longer run of equal quiet steps as one, but for its last step.

    Much faster than to read them, which ``compacted`` needs; the two lines that are kept of a
    run are read. Raises ``InvalidRecording``, with the place in ``lines``, if one is damaged.
    """
    return _QUIET_RUN.sub(_as_one, lines)


def _as_one(run: re.Match[bytes]) -> bytes:
    lines = run[0].splitlines(keepends=True)
    kept = b"".join(lines[-2:])
    before, _ = records_of(kept, needs_crc=True, byte=run.end() - len(kept))
    assert isinstance(before.record, StepRecord)
    times = len(lines) - 1
    return encoded(msgspec.structs.replace(before.record, times=times)) + lines[-1]


def compacted(records: Iterable[Record], keys: Iterable[str]) -> Iterator[Record]:
    """The same with each run of equal quiet steps as one record, but for its last step.

    ``keys`` are those whose answers may be asked for again; of others, nothing is kept.
    """
    kept = frozenset(keys)
    run: StepRecord | None = None
    last: StepRecord | None = None

    def both() -> Iterator[Record]:
        yield from (each for each in (run, last) if each is not None)

    for each in records:
        record = _without_key(each, kept)
        if record is None:
            continue
        if not (isinstance(record, StepRecord) and record.is_quiet and record.key is None):
            yield from both()
            run = last = None
            yield record
            continue
        if last is None:
            run, last = None, record
        elif record.steps == last.steps and (run is None or run.steps == last.steps):
            times = last.times + (0 if run is None else run.times)
            run = msgspec.structs.replace(last, times=times)
            last = record
        else:
            yield from both()
            run, last = None, record
    yield from both()


def without_keys(records: Iterable[Record]) -> Iterator[Record]:
    """The commands among records, without what was noted of their requests' keys."""
    for each in records:
        record = _without_key(each, frozenset())
        if record is not None and not isinstance(record, ForkRecord):
            yield record


def _without_key(record: Record, kept: frozenset[str]) -> Record | None:
    if isinstance(record, CancelOrderRecord) or record.key is None or record.key in kept:
        return record
    if isinstance(record, AnswerRecord):
        return None
    if isinstance(record, StepRecord):
        return msgspec.structs.replace(record, key=None, body=None, fast=False)
    return msgspec.structs.replace(record, key=None, body=None)
