"""Files are read in a process of its own: to the same series and refusals, within its bounds."""

import gzip
import hashlib
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from candlestep.data.errors import BadRows, UnreadableFile
from candlestep.data.imports.contents import Content, read_contents, read_series
from candlestep.data.imports.perpetual.funding import ReadFunding
from candlestep.data.imports.perpetual.tiers import ReadTiers
from candlestep.data.imports.process.file_reader import FileReader
from candlestep.data.imports.reading import NO_OPTIONS, ImportOptions
from candlestep.data.imports.series import ReadSeries
from candlestep.sandbox import InvalidSymbol, SandboxError
from tests.support.candle_files import csv_text, rows, write
from tests.support.patience import PATIENCE
from tests.support.perpetual_files import LAYOUTS as LAYOUTS_OF_PERPETUALS

NOW = 1_795_867_200_000


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[FileReader]:
    with FileReader(tmp_path) as reader:
        yield reader


def plain(contents: Sequence[Content]) -> list[Any]:
    plain: list[Any] = []
    for one in contents:
        match one:
            case ReadSeries():
                columns = (one.candles.open_time, *one.candles.numbers())
                lists = [column.tolist() for column in columns]
                plain.append((one.pair, one.interval, one.taken, one.kind, lists))
            case ReadFunding():
                plain.append(
                    (one.pair, one.taken, repr([c.tolist() for c in one.funding.columns()]))
                )
            case ReadTiers():
                plain.append((one.pair, one.start, one.tiers, one.taken))
    return plain


def test_a_file_is_read_to_the_same_series(tmp_path: Path, reader: FileReader) -> None:
    lines = csv_text(rows(3000)).splitlines()
    both = [f"{line},{symbol}" for line in lines[1:] for symbol in ("BTCUSDT", "ETHUSDT")]
    files = [
        write(tmp_path / "BTCUSDT.csv.gz", csv_text(rows(25_000))),
        write(tmp_path / "two.csv", "\n".join([f"{lines[0]},symbol", *both])),
    ]
    for file in files:
        series, sha256 = reader.read(file, NO_OPTIONS, time=NOW)
        assert plain(series) == plain(read_series(file, NO_OPTIONS, time=NOW))
        assert sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["BTCUSDT.csv.gz", "two.csv"]


@pytest.mark.parametrize("kind", ["mark", "funding", "tiers"])
def test_what_perpetuals_have_besides_candles_is_read_alike(
    tmp_path: Path, reader: FileReader, kind: str
) -> None:
    for layout in LAYOUTS_OF_PERPETUALS.values():
        if layout.kind == kind:
            file = layout.write(tmp_path)
            contents, _ = reader.read(file, layout.options, time=NOW)
            assert plain(contents) == plain(read_contents(file, layout.options, time=NOW))


def test_the_progress_is_passed_on(tmp_path: Path, reader: FileReader) -> None:
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(25_000)))
    here: list[tuple[int, int]] = []
    there: list[tuple[int, int]] = []
    read_series(path, NO_OPTIONS, lambda *part: here.append(part), NOW)
    reader.read(path, NO_OPTIONS, lambda *part: there.append(part), NOW)
    # What is silent for a while is told again.
    assert [part for part, _ in groupby(there) if part != (0, 0)] == here
    assert there[-1] == (25_000, 25_000)


@pytest.mark.parametrize(
    ("name", "text", "symbol", "kind"),
    [
        ("BTCUSDT.csv", "time,open,high,low,close\n", None, UnreadableFile),
        ("BTCUSDT-1m.csv", "time,open,high,low,close\nyesterday,1,1,1,1\n", None, BadRows),
        ("candles.csv", csv_text(rows(3)), "FOOBAR", InvalidSymbol),
        ("BTCUSDT-1m.csv", csv_text(rows(3)), "BTCUSDT_250328", UnreadableFile),
    ],
)
def test_a_refusal_is_the_same(
    tmp_path: Path,
    reader: FileReader,
    name: str,
    text: str,
    symbol: str | None,
    kind: type[SandboxError],
) -> None:
    path = write(tmp_path / name, text)
    options = ImportOptions(symbol=symbol)
    with pytest.raises(kind) as here:
        read_series(path, options, time=NOW)
    with pytest.raises(kind) as there:
        reader.read(path, options, time=NOW)
    assert type(there.value) is type(here.value) is kind
    assert (there.value.message, there.value.details) == (here.value.message, here.value.details)
    good = write(tmp_path / "BTCUSDT.csv", csv_text(rows(3)))
    assert reader.read(good, NO_OPTIONS, time=NOW).contents


def test_a_missing_file_is_refused(tmp_path: Path, reader: FileReader) -> None:
    with pytest.raises(UnreadableFile, match="No such file"):
        reader.read(tmp_path / "nothing.csv", NO_OPTIONS)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process allocates")
def test_a_file_that_needs_more_memory_than_there_is_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT.json.gz"
    path.write_bytes(gzip.compress(b"[" + b"[1704067200000,1,1,1,1,1]," * 2_400_000 + b"[]]"))
    other = write(tmp_path / "BTCUSDT.csv", csv_text(rows(3)))
    with FileReader(tmp_path, memory=256 << 20) as reader:
        with pytest.raises(UnreadableFile, match="it needs more than 256 MiB of memory to be read"):
            reader.read(path, ImportOptions(symbol="BTCUSDT"))
        [(_, _, _, _, columns)] = plain(reader.read(other, NO_OPTIONS, time=NOW).contents)
        assert len(columns[0]) == 3


@pytest.mark.parametrize("line", ["1704067200000,1,1,1,1,1", "# comment", "", "# " + "c" * 500])
def test_a_small_file_that_unpacks_to_much_takes_no_more_memory(tmp_path: Path, line: str) -> None:
    """Whether its lines are parsed in blocks, row by row, or left out."""
    path = tmp_path / "BTCUSDT-1m.csv.gz"
    text = "time,open,high,low,close,volume\n" + f"{line}\n" * ((80 << 20) // (len(line) + 1))
    path.write_bytes(gzip.compress(text.encode(), 1))
    with (
        FileReader(tmp_path, memory=400 << 20) as reader,
        pytest.raises(
            UnreadableFile, match=r"unpacks to more than 64 MiB|lines of it are comments"
        ),
    ):
        reader.read(path, NO_OPTIONS)


def endless(path: Path) -> Path:
    """Return a pipe that nobody writes to: a file whose reading never ends."""
    os.mkfifo(path)
    return path


def test_a_process_that_is_killed_is_an_error_of_one_file(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(30_000)))
    with FileReader(tmp_path) as reader:

        def kill(done: int, total: int) -> None:
            assert reader.process_id is not None
            os.kill(reader.process_id, signal.SIGKILL)

        with pytest.raises(UnreadableFile, match="failed, perhaps for want of memory"):
            reader.read(path, NO_OPTIONS, kill)
        [series] = reader.read(path, NO_OPTIONS).contents
        assert isinstance(series, ReadSeries)
        assert len(series.candles) == 30_000


def test_a_process_that_does_not_understand_a_request_ends(tmp_path: Path) -> None:
    """Who asks it would wait for its answer for ever."""
    ours, theirs = Pipe()
    with ours, theirs:
        module = "candlestep.data.imports.process.reading"
        handle = theirs.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(handle), str(1 << 30), str(tmp_path)],
            pass_fds=[handle],
            stderr=subprocess.PIPE,
        )
        theirs.close()
        ours.send_bytes(b"no request")
        _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert b"JSON is malformed" in error


def test_what_interrupts_the_caller_ends_the_process(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(30_000)))
    started: list[int | None] = []

    def interrupt(done: int, total: int) -> None:
        started.append(interrupted.process_id)
        raise KeyboardInterrupt

    with FileReader(tmp_path) as interrupted:
        with pytest.raises(KeyboardInterrupt):
            interrupted.read(path, NO_OPTIONS, interrupt)
        assert interrupted.process_id is None
    assert started[0] is not None
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_the_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    """Even if that is killed while the other one waits for a file that never comes."""
    program = f"""
        import threading
        from pathlib import Path
        from candlestep.data.imports.process.file_reader import FileReader
        from candlestep.data.imports.reading import NO_OPTIONS
        reader = FileReader(Path({str(tmp_path)!r}))
        path = Path({str(endless(tmp_path / "BTCUSDT.csv"))!r})
        reading = threading.Thread(target=reader.read, args=(path, NO_OPTIONS))
        reading.start()
        while reader.process_id is None:
            pass
        print(reader.process_id, flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        status = Path(f"/proc/{child}/stat")
        if not status.exists():
            pytest.skip("only Linux shows the processes of others as files")
        parent.kill()
        parent.wait()
        wait_for_end(child)


def wait_for_end(process: int) -> None:
    """Wait until a process of another parent has ended."""
    handle = os.pidfd_open(process)
    try:
        assert select.select([handle], [], [], PATIENCE)[0], "it has not ended"
    finally:
        os.close(handle)
