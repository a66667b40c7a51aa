"""``candlestep replay``: run the recording of a session again, here or on a server."""

import os
from collections.abc import Callable
from pathlib import Path

import click

from candlestep.api.admin.operation import Result, progress_of
from candlestep.api.admin.recordings import RECORD, REPLAY, RunRecording
from candlestep.api.cli.files import absolute_path, file_argument
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
@file_argument("file", metavar="FILE")
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
        lines = _record(home, file, url, key)
        print(f"{file}: {lines:,} lines, each with the answer given now.")
        suggest(f"{command_on(home, f'replay {file}')} compares with them")
        return 0
    replayed = _replay(home, file, url, key)
    if replayed.is_same:
        print(f"{file}: {replayed.commands:,} commands, and every answer is the one recorded.")
        return 0
    print_differences(file, replayed)
    return REFUSED


def _replay(home: str | None, file: str, url: str | None, key: str | None) -> ReplayResult:
    if url is None:
        return run(REPLAY, home, RunRecording(absolute_path(file)))
    return _play_on_server(replay, url, key, Path(file))


def _record(home: str | None, file: str, url: str | None, key: str | None) -> int:
    """Record the answers anew; return the number of lines of the recording."""
    if url is None:
        return run(RECORD, home, RunRecording(absolute_path(file))).lines
    lines = _play_on_server(re_record, url, key, Path(file))
    write_recording(Path(file), lines)
    return lines.count(b"\n")


def _play_on_server(
    play: Callable[[Recording, RemoteTarget, ReportCommands], Result],
    url: str,
    key: str | None,
    path: Path,
) -> Result:
    """Play a recording in a new session on the server, and show the progress."""
    recording = read_recording(path)
    with ProgressBar() as bar, remote_session(url, key, recording.start) as target:
        return play(recording, target, progress_of(path.name, "commands", bar.show))
