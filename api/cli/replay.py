"""``candlestep replay``: run the recording of a session again, here or on a server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from candlestep.api.admin.operation import Progress
from candlestep.api.admin.recordings import RECORD, REPLAY, RunRecording
from candlestep.api.cli.files import absolute_path, complete_file, file_name
from candlestep.api.cli.home import command_on, home_option, run
from candlestep.api.cli.messages import REFUSED, suggest
from candlestep.api.cli.replay_report import print_differences
from candlestep.api.cli.terminal import ProgressBar
from candlestep.api.replay.remote_target import RemoteTarget, remote_session
from candlestep.api.replay.replay import ReplayResult, ReportCommands, re_record, replay
from candlestep.data.journal.recording import Recording, read_recording, write_recording

_KEY_VARIABLE = "CANDLESTEP_KEY"


@click.command("replay")
@home_option
@click.argument("file", type=file_name, metavar="FILE", shell_complete=complete_file)
@click.option("--url", metavar="URL", help="Server to run it on, such as http://127.0.0.1:8000.")
@click.option("--key", metavar="KEY", help=f"API key for that server (default ${_KEY_VARIABLE}).")
@click.option(
    "--record", is_flag=True, help="Write today's answers into FILE instead of comparing them."
)
def command(home: str | None, file: str, url: str | None, key: str | None, record: bool) -> int:
    """Run a recording again and show the first answer that differs.

    It runs on the candles of the home, or on a server. The exit code is 0 if every answer is the
    same.
    """
    key = key or os.environ.get(_KEY_VARIABLE)
    if record:
        lines = _record(home, file) if url is None else _record_on_server(url, key, file)
        print(f"{file}: {lines:,} lines, each with the answer given now.")
        suggest(f"{command_on(home, f'replay {file}')} compares with them")
        return 0
    replayed = _replay(home, file) if url is None else _replay_on_server(url, key, file)
    if replayed.is_same:
        print(f"{file}: {replayed.commands:,} commands, and every answer is the one recorded.")
        return 0
    print_differences(file, replayed)
    return REFUSED


def _replay(home: str | None, file: str) -> ReplayResult:
    return run(REPLAY, home, RunRecording(absolute_path(file)))


def _record(home: str | None, file: str) -> int:
    return run(RECORD, home, RunRecording(absolute_path(file))).lines


def _replay_on_server(url: str, key: str | None, file: str) -> ReplayResult:
    with _session_for(url, key, file) as (recording, target, report):
        return replay(recording, target, report)


def _record_on_server(url: str, key: str | None, file: str) -> int:
    with _session_for(url, key, file) as (recording, target, report):
        lines = re_record(recording, target, report)
    write_recording(Path(file), lines)
    return lines.count(b"\n")


@contextmanager
def _session_for(
    url: str, key: str | None, file: str
) -> Iterator[tuple[Recording, RemoteTarget, ReportCommands]]:
    """Yield the recording, a new session for it on the server, and a report of progress."""
    recording = read_recording(Path(file))
    name = Path(file).name

    def report(done: int, total: int) -> None:
        bar.show(Progress(name, done, total, "commands"))

    with ProgressBar() as bar, remote_session(url, key, recording.start) as target:
        yield recording, target, report
