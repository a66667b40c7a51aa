"""Tables and progress, on a terminal and elsewhere."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from candlestep.api.admin.operation import Progress
from candlestep.api.cli import main
from candlestep.api.cli.terminal import ProgressBar, print_table
from tests.support.candle_files import csv_text, rows, write
from tests.support.command_line import ENVIRONMENT, candlestep

REMOVED = "\x1b[1A\x1b[2K"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_a_terminal_sees_progress_and_other_streams_do_not(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with ProgressBar() as bar:
        bar.show(Progress("a[b].csv", 50, 200, "rows"))
        bar.show(Progress("a[b].csv", 200, 200, "rows"))
        bar.show(Progress("b.zip", 3_000_000, 0, "bytes"))
    output = stream.getvalue()
    if not stream.isatty():
        assert output == ""
        return
    assert "a[b].csv" in output
    assert "25%" in output
    assert "3.0 MB" in output
    assert output.endswith(REMOVED)


def test_an_import_shows_its_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(100)))
    assert main(["data", "import", str(path), "--home", str(tmp_path)]) == 0
    assert "BTCUSDT.csv" in terminal.getvalue()
    assert "100 rows" in terminal.getvalue()


def test_columns_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "n"), [("x", "10"), ("long", "5")], numbers=("n",))
    assert capsys.readouterr().out == "a      n\nx     10\nlong   5\n"


def test_values_are_printed_as_they_are_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    values = ["[red]x[/red]", ":smile:", "x" * 500, "two words"]
    print_table(("a", "b", "c", "d"), [values])
    assert capsys.readouterr().out.splitlines()[1].split("  ") == values


def test_a_table_has_a_rule_on_a_terminal_and_none_in_a_pipe(tmp_path: Path) -> None:
    candlestep("data", "sample", "--home", tmp_path)
    command = [sys.executable, "-m", "candlestep.api", "data", "list", "--home", str(tmp_path)]
    environment = ENVIRONMENT | {"FORCE_COLOR": "1", "TERM": "xterm"}
    piped = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
    assert piped.isascii()
    assert b"\x1b" not in piped
    ours, theirs = pty.openpty()
    subprocess.run(command, env=environment, stdout=theirs, check=True)
    shown = os.read(ours, 65536).decode()
    os.close(theirs)
    os.close(ours)
    assert "\x1b[1mexchange" in shown
    assert "────" in shown
    assert "BTCUSDT" in shown
