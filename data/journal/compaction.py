"""Compaction: merges each run of equal steps in which nothing happened into one record."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

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

    ``keys`` are the idempotency keys that may be sent again; other keys are removed.
    """
    live_keys = frozenset(keys)
    stripped = (_without_key(record, live_keys) for record in records)
    for part in quiet_runs(record for record in stripped if record is not None):
        if not isinstance(part, list):
            yield part
            continue
        for _, equal_steps in groupby(part, key=lambda record: record.steps):
            *merged, last = equal_steps
            if merged:
                times = sum(record.times for record in merged)
                yield msgspec.structs.replace(merged[-1], times=times)
            yield last


def quiet_runs(records: Iterable[Record]) -> Iterator[Record | list[StepRecord]]:
    """Yield each run of quiet steps without keys as a list, and every other record as it is."""
    run: list[StepRecord] = []
    for record in records:
        if isinstance(record, StepRecord) and record.is_quiet and record.key is None:
            run.append(record)
            continue
        if run:
            yield run
            run = []
        yield record
    if run:
        yield run


def without_keys(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the commands among records, without the idempotency keys of their requests."""
    for full in records:
        record = _without_key(full, frozenset())
        if record is not None and not isinstance(record, ForkRecord):
            yield record


def _without_key(record: Record, live_keys: frozenset[str]) -> Record | None:
    if isinstance(record, CancelOrderRecord) or record.key is None or record.key in live_keys:
        return record
    if isinstance(record, AnswerRecord):
        return None
    if isinstance(record, StepRecord):
        return msgspec.structs.replace(record, key=None, body=None, fast=False)
    return msgspec.structs.replace(record, key=None, body=None)
