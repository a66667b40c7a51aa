"""Compaction: merges each run of equal steps in which nothing happened into one record."""

import re
from collections.abc import Iterable, Iterator
from typing import TypeGuard

import msgspec
from msgspec import UNSET

from candlestep.data.journal.recording import encoded, records_of
from candlestep.data.journal.records import (
    AnswerRecord,
    ForkRecord,
    Record,
    StepRecord,
    TurnRecord,
)

_QUIET = rb'\{"do":"step","steps":%s,"at": *[0-9]+,"digest":"[0-9a-f]{16}","crc":"[0-9a-f]{8}"\}\n'
_QUIET_RUN = re.compile(_QUIET % b"([0-9]+)" + rb"(?:" + _QUIET % rb"\1" + rb"){2,}")


def collapsed(lines: bytes) -> bytes:
    """Return the lines with each run of three or more equal quiet steps merged into two.

    The first of the two stands for all steps except the last.

    Reads only the last two lines of a run, so it is much faster than ``compacted``, which needs
    records. Raises ``InvalidRecording``, with the place in ``lines``, if one of these is damaged.
    """
    return _QUIET_RUN.sub(_as_one, lines)


def _as_one(run: re.Match[bytes]) -> bytes:
    lines = run[0].splitlines(keepends=True)
    last_two = b"".join(lines[-2:])
    before, _ = records_of(last_two, needs_crc=True, byte=run.end() - len(last_two))
    assert isinstance(before.record, StepRecord)
    times = len(lines) - 1
    return encoded(msgspec.structs.replace(before.record, times=times)) + lines[-1]


def compacted(records: Iterable[Record], keys: Iterable[str]) -> Iterator[Record]:
    """Yield the records with each run of equal quiet steps as two: all but the last, and the last.

    ``keys`` are the idempotency keys that may be sent again; other keys are removed. Holds at most
    two records, however long the runs are.
    """
    live_keys = frozenset(keys)
    earlier: StepRecord | None = None
    last: StepRecord | None = None
    for full in records:
        record = _without_key(full, live_keys)
        if record is None:
            continue
        if not _is_quiet_step(record):
            yield from (held for held in (earlier, last) if held is not None)
            earlier = last = None
            yield record
        elif last is not None and last.steps == record.steps:
            times = last.times + (0 if earlier is None else earlier.times)
            earlier, last = msgspec.structs.replace(last, times=times), record
        else:
            yield from (held for held in (earlier, last) if held is not None)
            earlier, last = None, record
    yield from (held for held in (earlier, last) if held is not None)


def quiet_runs(records: Iterable[Record]) -> Iterator[Record | list[StepRecord]]:
    """Yield each run of quiet steps without keys as a list, and every other record as it is."""
    run: list[StepRecord] = []
    for record in records:
        if _is_quiet_step(record):
            run.append(record)
            continue
        if run:
            yield run
            run = []
        yield record
    if run:
        yield run


def _is_quiet_step(record: Record) -> TypeGuard[StepRecord]:
    return isinstance(record, StepRecord) and record.is_quiet and record.key is None


def without_keys(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the commands among records, without the idempotency keys of their requests."""
    for full in records:
        record = _without_key(full, frozenset())
        if record is not None and not isinstance(record, ForkRecord):
            yield record


def _without_key(record: Record, live_keys: frozenset[str]) -> Record | None:
    if record.key is None or record.key in live_keys:
        return record
    if isinstance(record, AnswerRecord):
        return None
    if isinstance(record, StepRecord):
        return msgspec.structs.replace(record, key=None, body=None, fast=False)
    if isinstance(record, TurnRecord):
        return msgspec.structs.replace(record, key=None, body=None, reply=UNSET)
    return msgspec.structs.replace(record, key=None, body=None)
