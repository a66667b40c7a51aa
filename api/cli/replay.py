"""``candlestep replay``: run the recording of a session again, here or on a server."""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path

import click

from candlestep.api.admin.operation import progress_of
from candlestep.api.admin.orders import PLACE, PlaceOrders
from candlestep.api.admin.recordings import RECORD, REPLAY, RecordAnswers, ReplayRecording
from candlestep.api.cli.files import absolute_path, file_argument, file_option
from candlestep.api.cli.home import command_on, home_option, run
from candlestep.api.cli.junit import write_junit
from candlestep.api.cli.messages import NOT_COMPARED, print_error, suggest
from candlestep.api.cli.order_report import print_placed
from candlestep.api.cli.replay_report import (
    print_differences,
    print_not_compared,
    print_other_candles,
)
from candlestep.api.cli.terminal import ProgressBar, print_json
from candlestep.api.replay.difference import ReplayResult
from candlestep.api.replay.order_file import FIELDS
from candlestep.api.replay.remote_target import remote_session
from candlestep.api.replay.replay import re_record, replay
from candlestep.data.journal.recording import read_recording, write_recording
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import InvalidParameter, SandboxError, parse_time
from candlestep.sandbox.money import AMOUNT_PLACES, parse_positive

_KEY_VARIABLE = "CANDLESTEP_KEY"
_SAME, _DIFFERENT = 0, 1
"""Exit codes besides those of all commands."""


@click.command(
    "replay",
    epilog="Exit codes: 0 the same, 1 different, 2 wrong usage, 3 could not be compared.",
)
@home_option
@file_argument("file", metavar="FILE")
@click.option("--url", metavar="URL", help="Server to run it on, such as http://127.0.0.1:8000.")
@click.option("--key", metavar="KEY", help=f"API key for that server (default ${_KEY_VARIABLE}).")
@click.option(
    "--record", is_flag=True, help="Write today's answers into FILE instead of comparing them."
)
@click.option("--all", "find_all", is_flag=True, help="Show every difference, not only the first.")
@file_option("--candles", help="File of the candles it was recorded on: show which differ.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@file_option("--junit", help="Write the result to a file that CI servers read (JUnit XML).")
@click.option("--from", "start", metavar="TIME", help="FILE has orders: start of their session.")
@click.option("--to", "end", metavar="TIME", help="End of the session in which to place orders.")
@click.option("--balance", metavar="AMOUNT", help="Balance at the start of that session.")
@click.option(
    "--exchange", metavar="NAME", help=f"Exchange of orders (default {DEFAULT_EXCHANGE})."
)
@click.option(
    "--columns",
    metavar="FIELD=NAME,…",
    help="Names that fields of orders have in FILE, such as time=datetime,quantity=amount.",
)
def command(
    home: str | None,
    file: str,
    url: str | None,
    key: str | None,
    record: bool,
    find_all: bool,
    candles: str | None,
    as_json: bool,
    junit: str | None,
    start: str | None,
    end: str | None,
    balance: str | None,
    exchange: str | None,
    columns: str | None,
) -> int:
    """Run a recording again and show the first answer that differs.

    It runs on the candles of the home, or on a server. The report shows the first order that
    filled or closed differently, its step and candle, the account before and after it, and the
    candles that differ.

    With --from, --to and --balance, FILE has orders with wall-clock times (CSV, JSON lines, or a
    JSON list). Each is placed in a new session at the first step at or after its time. The
    recording of the session and its results are written beside FILE.
    """
    if key and url is None:
        raise click.UsageError("--key is for the server that --url names")
    placing = (start, end, balance, exchange, columns)
    if any(placing):
        if start is None or end is None or balance is None:
            raise click.UsageError("orders need --from, --to and --balance")
        if record or find_all or candles or as_json or junit or url is not None:
            raise click.UsageError("orders take --from, --to, --balance, --columns, --exchange")
        return _place(home, file, start, end, balance, exchange or DEFAULT_EXCHANGE, columns)
    if Path(file).suffix.lower() == ".csv":
        raise click.UsageError("a file of orders needs --from, --to and --balance")
    if record and (find_all or candles or as_json or junit):
        raise click.UsageError("--record compares nothing; leave out the other options")
    if candles and url is not None:
        raise click.UsageError("--candles needs the candles of a home; leave out --url")
    key = key or os.environ.get(_KEY_VARIABLE)
    try:
        if record:
            lines = _record(home, file, url, key)
            print(f"{file}: {lines:,} lines, each with the answer given now.")
            suggest(f"{command_on(home, f'replay {file}')} compares with them")
            return _SAME
        replayed = _replay(home, file, url, key, find_all, candles)
    except (SandboxError, OSError) as error:
        problem = _problem(error)
        print_error(problem)
        if junit:
            with suppress(OSError):
                write_junit(Path(junit), file, None, problem)
        return NOT_COMPARED
    if as_json:
        print_json(replayed)
    else:
        _print(file, replayed)
    if junit:
        write_junit(Path(junit), file, replayed, None)
    return _exit_code(replayed)


def _place(
    home: str | None,
    file: str,
    start: str,
    end: str,
    balance: str,
    exchange: str,
    columns: str | None,
) -> int:
    """Place a file of orders, and print what became of each."""
    try:
        if parse_time(end, "--to") <= parse_time(start, "--from"):
            raise InvalidParameter("--to", f"{end} is not after --from {start}")
        parse_positive("--balance", balance, AMOUNT_PLACES)
    except InvalidParameter as error:
        raise click.UsageError(error.message) from None
    path = Path(absolute_path(file))
    recording = path.with_name(f"{path.stem}.recording.jsonl")
    results = path.with_name(f"{path.stem}.results.json")
    request = PlaceOrders(
        str(path), start, end, balance, str(recording), str(results), _columns(columns), exchange
    )
    try:
        placed = run(PLACE, home, request)
    except (SandboxError, OSError) as error:
        print_error(_problem(error))
        return NOT_COMPARED
    print_placed(placed)
    print(f"\n{recording}\n{results}")
    suggest(f"{command_on(home, f'replay {recording}')} compares with these answers")
    return _SAME


def _problem(error: SandboxError | OSError) -> str:
    if isinstance(error, SandboxError):
        return error.message
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _columns(text: str | None) -> dict[str, str]:
    """Return the names of columns by field; raise ``UsageError`` for what is no list of them."""
    pairs = [pair.partition("=") for pair in (text or "").split(",") if pair.strip()]
    columns = {field.strip(): name.strip() for field, _, name in pairs}
    if len(columns) < len(pairs):
        raise click.UsageError("--columns names a field twice")
    if not all(field in FIELDS and name for field, name in columns.items()):
        raise click.UsageError(
            f"--columns takes FIELD=NAME, separated by commas; the fields are {', '.join(FIELDS)}"
        )
    return columns


def _exit_code(replayed: ReplayResult) -> int:
    if replayed.is_different:
        return _DIFFERENT
    return _SAME if replayed.is_same else NOT_COMPARED


def _print(file: str, replayed: ReplayResult) -> None:
    if replayed.is_same:
        print(f"{file}: {replayed.commands:,} commands, and every answer is the one recorded.")
        print_other_candles(replayed)
        return
    print_differences(file, replayed)
    if not replayed.divergences and replayed.compared < replayed.commands:
        print_not_compared(file, replayed)


def _replay(
    home: str | None,
    file: str,
    url: str | None,
    key: str | None,
    find_all: bool,
    candles: str | None,
) -> ReplayResult:
    if url is None:
        original = None if candles is None else absolute_path(candles)
        return run(REPLAY, home, ReplayRecording(absolute_path(file), find_all, original))
    path = Path(file)
    recording = read_recording(path)
    with ProgressBar() as bar:
        return replay(
            recording,
            partial(remote_session, url, key, recording.start),
            progress_of(path.name, "commands", bar.show),
            find_all=find_all,
        )


def _record(home: str | None, file: str, url: str | None, key: str | None) -> int:
    """Record the answers anew; return the number of lines of the recording."""
    if url is None:
        return run(RECORD, home, RecordAnswers(absolute_path(file))).lines
    path = Path(file)
    recording = read_recording(path)
    with ProgressBar() as bar, remote_session(url, key, recording.start) as target:
        lines = re_record(recording, target, progress_of(path.name, "commands", bar.show))
    write_recording(path, lines)
    return lines.count(b"\n")
