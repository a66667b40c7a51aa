"""Journals: every line is read back, and damage of any kind is reported, never skipped."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from candlestep.data.errors import StorageUnavailable
from candlestep.data.journal.archive import copy
from candlestep.data.journal.compaction import collapsed, compacted
from candlestep.data.journal.journal import Journal, JournalDamaged, Journals
from candlestep.data.journal.recording import (
    InvalidRecording,
    chained,
    encoded,
    quiet_step,
    recording_of,
    records_of,
    whole_lines,
)
from candlestep.data.journal.records import (
    AnswerRecord,
    CancelOrderRecord,
    CancelRecord,
    ForkRecord,
    LeverageRecord,
    MarginModeRecord,
    MarginTransferRecord,
    OcoRecord,
    OrderRecord,
    Origin,
    Record,
    ReplaceOrderRecord,
    Start,
    StepRecord,
    TurnRecord,
)

ID = "bt_1"
START = Start(
    config={"start_time": "2025-01-01"}, pairs=["BTCUSDT"], session_id=ID, digest="0" * 16
)
DIGEST = "0123456789abcdef"
ANSWER = msgspec.Raw(b'{"id":1}')

texts = st.text(max_size=8)
digests = st.text("0123456789abcdef", min_size=16, max_size=16)
keys = st.none() | st.sampled_from(["a", "b", "c", 'x","crc":"00000000"}'])
steps = st.integers(1, 3)
counts = st.integers(0, 10**6)


@st.composite
def records(draw: st.DrawFn) -> Record:
    at, digest = draw(counts), draw(digests)
    key = draw(keys)
    of_key: dict[str, Any] = {} if key is None else {"key": key, "body": "1"}
    answer = msgspec.Raw(msgspec.json.encode({"text": draw(texts)}))
    kind = draw(st.sampled_from(["quiet", "quiet", "quiet", "step", "other", "other"]))
    order = {"symbol": draw(texts)}
    replied: dict[str, Any] = {"at": at, "answer": answer, "digest": digest}
    repeated = UNSET if key is None else answer
    others: list[Record] = [
        OrderRecord(order=order, status=201, **replied, **of_key),
        OcoRecord(orders=[order, order], status=201, **replied, **of_key),
        ReplaceOrderRecord(order_id=1, changes={"price": "1"}, status=422, **replied, **of_key),
        CancelOrderRecord(order_id=1, **replied),
        TurnRecord(orders=[order], cancel=[1], steps=5, reply=repeated, **replied, **of_key),
        LeverageRecord(symbol="BTCUSDT-PERP", leverage="3", **replied, **of_key),
        MarginModeRecord(symbol="BTCUSDT-PERP", margin_mode="isolated", **replied, **of_key),
        MarginTransferRecord(symbol="BTCUSDT-PERP", amount="-1.5", **replied, **of_key),
        CancelRecord(**replied, **of_key),
        ForkRecord(
            sessions=["bt_2"],
            strategy_label="x",
            forked_at=1,
            at=at,
            size=9,
            digest=digest,
            **of_key,
        ),
        AnswerRecord(key=key or "k", body="1", status=422, answer=answer, at=at),
    ]
    assert {StepRecord, *map(type, others)} == {*get_args(Record)}
    if kind == "quiet":
        return StepRecord(steps=draw(steps), at=at, digest=digest, **of_key)
    if kind == "step":
        return StepRecord(steps=draw(steps), at=at, digest=digest, answer=answer, **of_key)
    return draw(st.sampled_from(others))


many_records = st.lists(records(), max_size=12)


def file_of(history: list[Record]) -> bytes:
    return encoded(START) + b"".join(map(encoded, history))


def read(data: bytes) -> list[Record]:
    return list(recording_of(records_of(whole_lines(data), needs_crc=True)).records)


@settings(max_examples=200)
@given(many_records)
def test_what_is_written_is_read(history: list[Record]) -> None:
    assert read(file_of(history)) == history


def test_a_line_is_an_object_of_json_and_says_what_was_done() -> None:
    """The checksum is the CRC-32 of the text before it, as gzip computes it."""
    line = encoded(StepRecord(steps=60, at=60, digest=DIGEST))
    text = '{"do":"step","steps":60,"at":60,"digest":"0123456789abcdef"'
    assert line.decode() == text + ',"crc":"44888341"}\n'
    fields = msgspec.json.decode(line)
    assert (fields["do"], fields["steps"], fields["at"]) == ("step", 60, 60)


def test_quiet_steps_are_small_and_of_one_size() -> None:
    lines = [quiet_step(1, at, DIGEST.encode()) for at in (1, 525_600, 10**9)]
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) == 85
    [read_back] = records_of(lines[1], needs_crc=True)
    assert read_back.record == StepRecord(steps=1, at=525_600, digest=DIGEST)


def test_a_digest_is_of_all_answers_so_far() -> None:
    """The first 16 digits of `printf 0123456789abcdefanswer | sha256sum`."""
    assert chained(DIGEST.encode(), b"answer") == b"b67f55bd37331c8c"


@settings(max_examples=200)
@given(many_records, st.data())
def test_a_file_cut_anywhere_is_read_up_to_its_last_whole_line(
    history: list[Record], data: st.DataObject
) -> None:
    content = file_of(history)
    ends = [0, *(i + 1 for i, byte in enumerate(content) if byte == ord("\n"))]
    cut = data.draw(st.integers(ends[1], len(content)))
    zeros = data.draw(st.sampled_from([b"", b"\0", b"\0" * 50]))
    whole = sum(end <= cut for end in ends) - 2
    assert read(content[:cut] + zeros) == history[:whole]


@settings(max_examples=200)
@given(many_records, st.data())
def test_a_byte_changed_anywhere_is_found(history: list[Record], data: st.DataObject) -> None:
    """A byte at the very end may pass for a line that was never finished. Anything else is damage,
    and the error names its line.
    """
    content = bytearray(file_of(history))
    place = data.draw(st.integers(0, len(content) - 1))
    changed = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    content[place] = changed
    last_line = content.rstrip(b"\n").rfind(b"\n") + 1
    damage = damage_of(bytes(content))
    if damage is None:
        assert (read(bytes(content)), place) == (history[:-1], len(content) - 1)
    else:
        line = bytes(content[:place]).count(b"\n") + 1
        assert damage.details["line"] in (line - 1, line, line + 1)
        assert damage.details["byte"] <= place or place < last_line


def damage_of(data: bytes) -> InvalidRecording | None:
    try:
        read(data)
    except InvalidRecording as error:
        return error
    return None


@settings(max_examples=200)
@given(many_records, st.data())
def test_runs_of_quiet_steps_are_compacted_and_nothing_else_is(
    history: list[Record], data: st.DataObject
) -> None:
    """Each run of equal quiet steps is at most two records: all but the last, and the last."""
    live_keys = data.draw(st.sets(st.sampled_from(["a", "b", "c"])))
    cut = data.draw(st.integers(0, len(history)))
    at_once = list(compacted(history, live_keys))
    in_two = list(compacted([*compacted(history[:cut], live_keys), *history[cut:]], live_keys))
    assert expanded(at_once) == expanded(in_two) == expanded(without_keys(history, live_keys))
    for first, second, third in zip(at_once, at_once[1:], at_once[2:], strict=False):
        run = [
            isinstance(r, StepRecord) and r.is_quiet and not r.key for r in (first, second, third)
        ]
        if all(run):
            lengths = {r.steps for r in (first, second, third) if isinstance(r, StepRecord)}
            assert len(lengths) > 1


@settings(max_examples=200)
@given(many_records)
def test_runs_are_collapsed_without_being_read(history: list[Record]) -> None:
    """Compacting collapsed lines gives the same records."""
    lines = b"".join(map(encoded, history)) + b"".join(
        quiet_step(1 + at // 7 % 2, at, DIGEST.encode()) for at in range(len(history) * 5)
    )
    whole = [read_back.record for read_back in records_of(lines, needs_crc=True)]
    first = [read_back.record for read_back in records_of(collapsed(lines), needs_crc=True)]
    assert [*compacted(first, ())] == [*compacted(whole, ())]  # type: ignore[arg-type]


def without_keys(history: list[Record], live_keys: set[str]) -> list[Record]:
    cleaned: list[Record] = []
    for record in history:
        if isinstance(record, CancelOrderRecord) or record.key is None or record.key in live_keys:
            cleaned.append(record)
        elif isinstance(record, TurnRecord):
            cleaned.append(msgspec.structs.replace(record, key=None, body=None, reply=UNSET))
        elif not isinstance(record, AnswerRecord):
            cleaned.append(msgspec.structs.replace(record, key=None, body=None))
    return cleaned


def expanded(history: list[Record]) -> list[tuple[Any, ...]]:
    """Return every record by itself; a quiet step is reduced to what a run has of each member."""
    single: list[tuple[Any, ...]] = []
    for record in history:
        if isinstance(record, StepRecord) and record.is_quiet and record.key is None:
            single += [(record.steps,)] * record.times
        else:
            single.append((record,))
    return single


def test_the_last_step_of_a_run_keeps_its_own_digest() -> None:
    run: list[Record] = [StepRecord(steps=1, at=n, digest=f"{n:016x}") for n in range(1, 6)]
    assert list(compacted(run, ())) == [
        StepRecord(steps=1, times=4, at=4, digest=f"{4:016x}"),
        StepRecord(steps=1, at=5, digest=f"{5:016x}"),
    ]


def test_a_year_of_single_steps_is_a_small_file(tmp_path: Path) -> None:
    journal = Journals(tmp_path, synced=False).create(START)
    for at in range(1, 50_001):
        journal.append(quiet_step(1, at, DIGEST.encode()))
        if journal.is_worth_compacting:
            journal.compact(())
        assert journal.size < 1100 * 1024
    journal.compact(())
    assert journal.size < 1024
    assert journal.path.stat().st_size == journal.size
    journals = Journals(tmp_path, synced=False)
    assert journals.last_step(ID) == (50_000, False)
    assert (
        sum(r.steps * r.times for r in journals.read(ID).records if isinstance(r, StepRecord))
        == 50_000
    )


def test_what_a_fork_shares_stays_as_it_is(tmp_path: Path) -> None:
    journals = Journals(tmp_path, synced=False)
    journal = journals.create(START)
    for at in range(1, 100):
        journal.append(quiet_step(1, at, DIGEST.encode()))
    shared = journal.size
    fork = ForkRecord(
        sessions=["bt_2"], strategy_label="", forked_at=1, at=99, size=shared, digest=DIGEST
    )
    journal.share(encoded(fork))
    before = journal.path.read_bytes().rstrip(b"\0")
    for at in range(100, 200):
        journal.append(quiet_step(1, at, DIGEST.encode()))
    journal.compact(())
    journal.close()
    after = journal.path.read_bytes()
    assert after.startswith(before)
    assert len(after) < len(before) + 300
    again = journals.open(ID)
    for at in range(200, 300):
        again.append(quiet_step(1, at, DIGEST.encode()))
    again.compact(())
    assert journal.path.read_bytes().startswith(before)
    journals.create(
        msgspec.structs.replace(
            START, session_id="bt_2", forked_from=Origin(ID, shared, DIGEST), at=99
        )
    )
    assert journals.last_step("bt_2") == (99, False)
    assert [r.at for r in journals.read("bt_2").records] == list(range(1, 100))


def test_a_line_that_was_never_finished_is_written_over(tmp_path: Path) -> None:
    journals = Journals(tmp_path, synced=False)
    journal = journals.create(START)
    journal.append(quiet_step(1, 1, DIGEST.encode()))
    journal.append(quiet_step(1, 2, DIGEST.encode())[:-5])
    journal.close()
    assert journals.last_step(ID) == (1, False)
    again = journals.open(ID)
    again.append(quiet_step(7, 8, DIGEST.encode()))
    again.close()
    assert [record.at for record in journals.read(ID).records] == [1, 8]


@pytest.mark.parametrize("length", [0, 100, 10**6])
def test_a_file_that_another_program_cut_or_extended_takes_no_more_lines(
    tmp_path: Path, length: int
) -> None:
    journals = Journals(tmp_path, synced=False)
    cut, whole = (
        journals.create(START),
        journals.create(msgspec.structs.replace(START, session_id="bt_2")),
    )
    lines = [quiet_step(1, at, DIGEST.encode()) for at in range(1, 10)]
    for line in lines:
        cut.append(line)
    os.truncate(cut.path, length)
    content = cut.path.read_bytes()
    for _ in range(2):
        with pytest.raises(
            StorageUnavailable, match=f"it has {length} bytes instead of {cut.size}"
        ):
            cut.append(lines[0])
    if length < cut.size:
        with pytest.raises(StorageUnavailable, match="cannot be compacted"):
            cut.compact(())
    assert cut.path.read_bytes() == content
    whole.append(lines[0])
    assert [record.at for record in journals.read("bt_2").records] == [1]


def test_damage_is_told_with_its_place(tmp_path: Path) -> None:
    journals = Journals(tmp_path, synced=False)
    journal = journals.create(START)
    for at in range(1, 4):
        journal.append(quiet_step(1, at, DIGEST.encode()))
    journal.close()
    content = bytearray(journal.path.read_bytes())
    first = content.index(b"\n") + 1
    content[first + 5] ^= 1
    journal.path.write_bytes(content)
    with pytest.raises(JournalDamaged) as caught:
        journals.read(ID)
    assert caught.value.details == {"line": 2, "byte": first}
    assert f"bt_1.jsonl is damaged at line 2 (byte {first})" in caught.value.message
    with pytest.raises(FileNotFoundError):
        journals.read("bt_2")


Writes = Callable[[int, bytes, int], int]


@pytest.mark.parametrize("written", [0, 10])
def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """The disk takes nothing or only a part of a line."""
    journals = Journals(tmp_path, synced=False)
    journal = journals.create(START)
    lines = [quiet_step(1, at, DIGEST.encode()) for at in range(1, 2000)]
    write: Writes = os.pwrite
    room = [10**6]

    def full(file: int, data: bytes, place: int) -> int:
        count = min(room[0], len(data))
        room[0] = 0
        if not count:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[:count], place)

    monkeypatch.setattr(os, "pwrite", full)
    done = appended(journal, lines)
    assert 0 < done < len(lines)
    before = journal.path.read_bytes()
    for _ in range(3):
        room[0] = written
        with pytest.raises(StorageUnavailable, match="journal cannot be written"):
            journal.append(lines[done])
        assert journal.path.read_bytes() == before
        assert journal.size == len(before)
    monkeypatch.undo()
    journal.append(lines[done])
    assert [record.at for record in journals.read(ID).records] == list(range(1, done + 2))


def appended(journal: Journal, lines: list[bytes]) -> int:
    """Append lines until the disk is full, and return their number."""
    for done, line in enumerate(lines):
        try:
            journal.append(line)
        except StorageUnavailable:
            return done
    return len(lines)


def test_power_syncs_every_line_and_every_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync, fdatasync = os.fsync, os.fdatasync

    def noted(sync: Callable[[int], None], file: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{file}")).name)
        sync(file)

    monkeypatch.setattr(os, "fsync", lambda file: noted(fsync, file))
    monkeypatch.setattr(os, "fdatasync", lambda file: noted(fdatasync, file))
    journals = Journals(tmp_path, synced=True)
    journal = journals.create(START)
    assert synced == [tmp_path.name, "bt_1.new", "journals"]
    journal.append(quiet_step(1, 1, DIGEST.encode()))
    journal.sync()
    assert synced[3:] == ["bt_1.jsonl"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must begin with"),
        ('{"do":"step","steps":1}', "must begin with"),
        (
            '{"do":"start","config":{},"pairs":[]}\n{"do":"start","config":{},"pairs":[]}',
            "line 2 .byte 38.: it starts again",
        ),
        (
            '{"do":"start","config":{},"pairs":[]}\n{"do":"stepp"}',
            "line 2 .byte 38.: it is not a record: Invalid",
        ),
        ('{"do":"start","config":{},"pairs":[]}\n\n', "line 2 .byte 38.: it is not a record"),
        ('{"do":"start","config":{},"pairs":[],"pirs":[]}', "line 1 .*unknown field `pirs`"),
        ('{"do":"start","config":{},"pairs":[],"crc":"00000000"}', "line 1 .*checksum is wrong"),
        ('{"do":"step","steps":"x"}', "line 1 .*Expected `int`, got `str`"),
        ('{"do":"start","config":{},"pairs":[],"format":2}', "its format is 2, and this version"),
        ("[" * 100_000, "line 1"),
        ("\xff", "line 1"),
    ],
)
def test_what_is_no_recording_is_refused_by_line(text: str, problem: str) -> None:
    with pytest.raises(InvalidRecording, match=problem):
        recording_of(records_of(text.encode("latin-1"), needs_crc=False))


def test_a_recording_by_hand_needs_no_checksums() -> None:
    text = (
        b'{"do":"start","config":{"starting_balance":1e3},"pairs":[]}\r\n{"do":"step","steps":60}\n'
    )
    recording = recording_of(records_of(text, needs_crc=False))
    assert recording.start.config == {"starting_balance": "1e3"}
    assert recording.records == [StepRecord(steps=60)]
    with pytest.raises(InvalidRecording, match="no checksum"):
        recording_of(records_of(text, needs_crc=True))


@settings(max_examples=20)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_recording_or_refused(data: bytes) -> None:
    damage = damage_of(data)
    assert damage is None or damage.details["line"] >= 1


def test_a_journal_that_is_replaced_is_never_half_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "bt_1.jsonl", synced=False)
    journal.replace(b"old\n")

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(StorageUnavailable):
        journal.replace(b"new\n")
    assert [path.name for path in tmp_path.iterdir()] == ["bt_1.jsonl"]
    assert journal.path.read_bytes() == b"old\n"


def test_a_copy_is_left_out_only_where_there_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "bt_1.jsonl"
    assert copy(path, tmp_path) is None
    path.write_bytes(b"line\n")
    with pytest.raises(FileNotFoundError, match="gone"):
        copy(path, tmp_path / "gone")
