"""The ``candlestep`` command: a server, candles in and out, and the keys of those who may call."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from candlestep import __version__
from candlestep.api.admin import candles, keys, recordings
from candlestep.api.admin.candles import Import, ImportReport
from candlestep.api.admin.keys import KeyInfo
from candlestep.api.admin.operation import EmptyInput, Input, Operation, Progress, Result
from candlestep.api.admin.running_server import run_operation
from candlestep.api.cli import replay_report
from candlestep.api.cli.terminal import ProgressBar, table
from candlestep.api.replay.remote_target import RemoteTarget, remote_session
from candlestep.api.replay.replay import TellDone, record, replay
from candlestep.api.settings import DESCRIPTIONS, Settings, flag_name, home_directory
from candlestep.data.imports.archive import DEFAULT_BASE_URL, fetch_month, months
from candlestep.data.journal.recording import Recording, read_recording, write_recording
from candlestep.data.market.catalogue import Series
from candlestep.data.records.accounts import DEFAULT_ACCOUNT
from candlestep.data.symbols import DEFAULT_EXCHANGE, parse_symbol
from candlestep.sandbox import INTERVALS, InvalidParameter, SandboxError, format_time, interval_name

REFUSED = 1
MISUSED = 2
INTERRUPTED = 130
"""Exit codes, beside 0."""

DOWNLOADS = "downloads"
"""Directory of the home in which downloaded files are kept."""

_GAPS_SHOWN = 10
_KEY_VARIABLE = "CANDLESTEP_KEY"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; the exit code says how it went."""
    try:
        options = _parser().parse_args(arguments)
        code: int = options.run(options)
        sys.stdout.flush()
    except SandboxError as error:
        message = error.message
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough; what Python flushes at its end must not complain of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror or error}"
    else:
        return code
    return _fail(message)


def _fail(message: str) -> int:
    print(f"candlestep: {message}", file=sys.stderr)
    return REFUSED


def _serve(options: argparse.Namespace) -> int:
    try:
        settings = Settings.from_environment(**{name: vars(options)[name] for name in DESCRIPTIONS})
    except InvalidParameter as error:
        _fail(error.message)
        return MISUSED
    # Only this command needs the server, and what comes with it takes time to load.
    from candlestep.api.server.process import serve

    serve(settings)
    return 0


def _import(options: argparse.Namespace) -> int:
    request = candles.ImportFiles(
        files=options.files,
        symbol=options.symbol,
        interval=options.interval,
        exchange=options.exchange,
    )
    return _tell_imported(options, _perform(candles.IMPORT, options, request))


def _sample(options: argparse.Namespace) -> int:
    imported = _perform(candles.SAMPLE, options, EmptyInput())
    print("The sample market is synthetic: nothing in it ever happened on a market.\n")
    return _tell_imported(options, imported)


def _drop_sample(options: argparse.Namespace) -> int:
    symbols = _perform(candles.DROP_SAMPLE, options, EmptyInput()).symbols
    if symbols:
        print(
            f"The sample market of {', '.join(symbols)} is gone; sessions that ran on it keep it."
        )
    else:
        print("There is no sample market here.")
    return 0


def _download(options: argparse.Namespace) -> int:
    """Fetch everything first: what has been fetched is there when the command is run again."""
    directory = home_directory(options.home) / DOWNLOADS
    last = options.last or options.first
    if last < options.first:
        raise InvalidParameter("--to", f"{last} is before {options.first}")
    asked = months(options.first, last)
    imports, refusals = [], []
    absent = 0
    symbols = {parse_symbol(symbol).symbol: symbol for symbol in options.symbols}
    files: dict[str, list[str]] = {symbol: [] for symbol in symbols}
    with ProgressBar(sys.stderr) as bar:
        for symbol in symbols:
            for month in asked:
                part = f"{symbol} {month}"

                def tell_bytes(done: int, total: int, part: str = part) -> None:
                    bar.show(Progress(part, done, total, "bytes"))

                path = fetch_month(
                    symbol,
                    month,
                    directory,
                    interval=options.interval,
                    base_url=options.base_url,
                    progress=tell_bytes,
                )
                if path is None:
                    absent += 1
                    _fail(f"the archive has no {options.interval} candles of {part}")
                else:
                    files[symbol].append(str(path))
    for symbol, paths in files.items():
        if paths:
            request = candles.ImportFiles(
                files=paths, symbol=symbols[symbol], interval=options.interval
            )
            imported = _perform(candles.IMPORT, options, request)
            imports += imported.imports
            refusals += imported.refusals
    code = _tell_imported(options, ImportReport(imports, refusals))
    return REFUSED if absent else code


def _list(options: argparse.Namespace) -> int:
    series = _perform(candles.LIST, options, EmptyInput()).series
    if options.json:
        return _print_json([_series_as_json(each) for each in series])
    if not series:
        print("There are no candles yet.")
        sample, load = _command(options, "data sample"), _command(options, "data import FILE…")
        _suggest(f"{load} imports candles, {sample} loads a sample market")
        return 0
    header = ("exchange", "symbol", "interval", "from (UTC)", "to (UTC)", "rows", "gaps", "")
    rows = [
        (
            each.exchange,
            each.symbol,
            interval_name(each.interval),
            _minute(each.start),
            _minute(each.end),
            f"{each.rows:,}",
            f"{len(each.gaps):,}",
            "synthetic" if each.synthetic else "",
        )
        for each in series
    ]
    print(table(header, rows, numbers=("rows", "gaps")))
    _tell_gaps(series)
    return 0


def _export(options: argparse.Namespace) -> int:
    exported = _perform(candles.EXPORT, options, candles.ExportTo(options.path))
    print(f"{exported.path} is a copy of the store, of {exported.size / 1e6:,.1f} MB.")
    _suggest(f"duckdb {exported.path} opens it, SHOW TABLES; lists what it holds")
    return 0


def _prune(options: argparse.Namespace) -> int:
    rows = _perform(candles.PRUNE, options, EmptyInput()).rows
    print(f"{rows:,} superseded candles dropped.")
    return 0


def _replay(options: argparse.Namespace) -> int:
    """Run a recording again, here or on a server, or write down what it answers."""
    file = options.file
    if options.record:
        lines = _record(options)
        print(f"{file}: {lines:,} lines, each with what is answered now.")
        _suggest(f"{_command(options, f'replay {file}')} compares with them")
        return 0
    if options.url is None:
        request = recordings.RunRecording(_absolute(file))
        replayed = _perform(recordings.REPLAY, options, request)
    else:
        with _remote(options) as (recording, target, report):
            replayed = replay(recording, target, report)
    if replayed.is_same:
        print(replay_report.same(file, replayed))
        return 0
    print(replay_report.problems(file, replayed))
    return REFUSED


def _record(options: argparse.Namespace) -> int:
    if options.url is None:
        request = recordings.RunRecording(_absolute(options.file))
        return _perform(recordings.RECORD, options, request).lines
    with _remote(options) as (recording, target, report):
        lines = record(recording, target, report)
    write_recording(Path(options.file), lines)
    return lines.count(b"\n")


@contextmanager
def _remote(options: argparse.Namespace) -> Iterator[tuple[Recording, RemoteTarget, TellDone]]:
    """The recording, a session for it on the server, and what shows how far it is."""
    recording = read_recording(Path(options.file))
    key = options.key or os.environ.get(_KEY_VARIABLE)
    name = Path(options.file).name

    def report(done: int, total: int) -> None:
        bar.show(Progress(name, done, total, "commands"))

    with (
        ProgressBar(sys.stderr) as bar,
        remote_session(options.url, key, recording.start) as target,
    ):
        yield recording, target, report


def _create_key(options: argparse.Namespace) -> int:
    request = keys.CreateKey(options.name, options.account, options.agent)
    created = _perform(keys.CREATE_KEY, options, request)
    key = created.key
    print(f"key      {created.secret}")
    print(f"id       {key.key_id}")
    print(f"account  {key.account}")
    print(f"agent    {key.agent} ({key.agent_id})")
    _suggest("keep the key, it is not shown again; send it as X-API-Key or Authorization: Bearer")
    return 0


def _list_keys(options: argparse.Namespace) -> int:
    shown = _perform(keys.LIST_KEYS, options, EmptyInput()).keys
    if options.json:
        return _print_json([_key_as_json(key) for key in shown])
    if not shown:
        print("There are no keys: a server that only this machine can reach is open to it.")
        _suggest(f"{_command(options, 'keys create NAME')} makes one")
        return 0
    header = ("id", "name", "account", "agent", "created (UTC)", "revoked (UTC)")
    rows = [
        (
            key.key_id,
            key.name,
            key.account,
            key.agent,
            _minute(key.created_at),
            "" if key.revoked_at is None else _minute(key.revoked_at),
        )
        for key in shown
    ]
    print(table(header, rows))
    return 0


def _revoke_key(options: argparse.Namespace) -> int:
    key = _perform(keys.REVOKE_KEY, options, keys.RevokeKey(options.key_id))
    print(f"The key {key.name} ({key.key_id}) opens nothing any more.")
    return 0


def _perform(
    command: Operation[Input, Result], options: argparse.Namespace, request: Input
) -> Result:
    with ProgressBar(sys.stderr) as bar:
        return run_operation(command, home_directory(options.home), request, bar.show)


def _tell_imported(options: argparse.Namespace, imported: ImportReport) -> int:
    """What was imported, as a table, and what was not, in words; an exit code."""
    for refusal in imported.refusals:
        _fail(refusal.message)
    if imported.imports:
        print(_imports_table(imported.imports))
        if not any(each.summary.import_number for each in imported.imports):
            print("\nNothing has changed: these candles were there already.")
        serve, show = _command(options, "serve"), _command(options, "data list")
        _suggest(f"{serve} starts a server on them if none runs, {show} lists all candles")
    return REFUSED if imported.refusals else 0


def _imports_table(imports: Sequence[Import]) -> str:
    header = ("symbol", "interval", "from (UTC)", "to (UTC)", "rows", "new", "replaced", "gaps",
              "source")  # fmt: skip
    rows = [
        (
            each.summary.symbol,
            interval_name(each.summary.interval),
            _minute(each.summary.start),
            _minute(each.summary.end),
            f"{each.summary.rows:,}",
            f"{each.summary.new:,}",
            f"{each.summary.replaced:,}",
            f"{len(each.summary.gaps):,}",
            each.source,
        )
        for each in imports
    ]
    return table(header, rows, numbers=("rows", "new", "replaced", "gaps"))


def _tell_gaps(series: Sequence[Series]) -> None:
    gaps = [(each, gap) for each in series for gap in each.gaps]
    if gaps:
        print()
        header = ("gap in", "", "from (UTC)", "to (UTC)")
        rows = [
            (each.symbol, interval_name(each.interval), _minute(start), _minute(end))
            for each, (start, end) in gaps[:_GAPS_SHOWN]
        ]
        print(table(header, rows))
        if len(gaps) > _GAPS_SHOWN:
            print(f"and {len(gaps) - _GAPS_SHOWN:,} more, which --json shows")


def _series_as_json(series: Series) -> dict[str, Any]:
    return {
        "exchange": series.exchange,
        "symbol": series.symbol,
        "interval": interval_name(series.interval),
        "start": format_time(series.start),
        "end": format_time(series.end),
        "rows": series.rows,
        "gaps": [
            {"start": format_time(start), "end": format_time(end)} for start, end in series.gaps
        ],
        "synthetic": series.synthetic,
    }


def _key_as_json(key: KeyInfo) -> dict[str, Any]:
    revoked_at = None if key.revoked_at is None else format_time(key.revoked_at)
    times = {"created_at": format_time(key.created_at), "revoked_at": revoked_at}
    return msgspec.structs.asdict(key) | times


def _print_json(value: Any) -> int:
    print(msgspec.json.format(msgspec.json.encode(value)).decode())
    return 0


def _minute(time: int) -> str:
    return format_time(time)[:16].replace("T", " ")


def _command(options: argparse.Namespace, command: str) -> str:
    """How to call another command on the same home."""
    home = f" --home {options.home}" if options.home else ""
    return f"`candlestep {command}{home}`"


def _suggest(sentence: str) -> None:
    print(f"\nNext: {sentence}.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="candlestep", description="A simulated exchange that an agent steps through."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(run=lambda options: _explain(parser))
    groups = parser.add_subparsers(metavar="COMMAND")
    _add_serve(groups)
    _add_replay(groups)
    _add_data(_group(groups, "data", "import, list and export candles"))
    _add_keys(_group(groups, "keys", "create, list and revoke API keys"))
    return parser


def _group(groups: Any, name: str, summary: str) -> argparse.ArgumentParser:
    description = f"{summary[:1].upper()}{summary[1:]}."
    parser: argparse.ArgumentParser = groups.add_parser(name, help=summary, description=description)
    return parser


def _explain(parser: argparse.ArgumentParser) -> int:
    """What is said where no command is named."""
    parser.print_help(sys.stderr)
    sample, serve = "`candlestep data sample`", "`candlestep serve`"
    print(f"\nNext: {sample} loads a sample market, {serve} starts the server.", file=sys.stderr)
    return MISUSED


def _add_serve(groups: Any) -> None:
    parser = _add(groups, "serve", _serve, "start the server")
    for setting, description in DESCRIPTIONS.items():
        if setting != "home":
            parser.add_argument(
                flag_name(setting), help=description, metavar=setting.split("_")[-1].upper()
            )


def _add_replay(groups: Any) -> None:
    parser = _add(
        groups,
        "replay",
        _replay,
        "run the recording of a session again, and show the first answer that is another",
        "It runs on the candles of the home, or on a server. Exits 0 if every answer is the same.",
    )
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--url", help="of a server to run it on, such as http://127.0.0.1:8000")
    parser.add_argument(
        "--key", help=f"API key for that server (default: ${_KEY_VARIABLE})", metavar="KEY"
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="write into FILE what is answered now, instead of comparing with it",
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_subparsers(required=True, metavar="COMMAND")

    load = _add(
        group,
        "import",
        _import,
        "import candles from CSV, kline archive, Parquet or JSON files",
        "Each file is imported as a whole or, if a row of it is bad, not at all.",
    )
    load.add_argument("files", nargs="+", type=_absolute, metavar="FILE")
    load.add_argument("--symbol", help="such as BTCUSDT or BTC/USDT (default: as in the file name)")
    _add_interval(load, default=None, default_text="inferred from the file")
    load.add_argument("--exchange", default=DEFAULT_EXCHANGE, help="(default %(default)s)")

    _add_json(_add(group, "list", _list, "list the candles: range, rows and gaps of each series"))
    _add(group, "sample", _sample, "load the sample market: two symbols, synthetic")
    _add(group, "drop-sample", _drop_sample, "take the sample market out again")

    download = _add(
        group,
        "download",
        _download,
        "download months of candles from the public kline archive, and import them",
        "Downloaded files are verified and kept in the home; a download broken off is resumed.",
    )
    download.add_argument("symbols", nargs="+", metavar="SYMBOL")
    download.add_argument(
        "--from", dest="first", required=True, type=_month, help="first month", metavar="YYYY-MM"
    )
    download.add_argument(
        "--to", dest="last", type=_month, help="last month (default: the first)", metavar="YYYY-MM"
    )
    _add_interval(download, default="1m", default_text="1m")
    download.add_argument(
        "--base-url", default=DEFAULT_BASE_URL, help="of the archive (default %(default)s)"
    )

    export = _add(group, "export", _export, "write a copy of the store for the DuckDB shell")
    export.add_argument("path", type=_absolute, metavar="PATH")
    _add(group, "prune", _prune, "drop superseded candles that no session needs")


def _add_keys(parser: argparse.ArgumentParser) -> None:
    group = parser.add_subparsers(required=True, metavar="COMMAND")
    create = _add(group, "create", _create_key, "create an API key and show it, this once")
    create.add_argument("name", help="what the key is for", metavar="NAME")
    create.add_argument(
        "--account",
        default=DEFAULT_ACCOUNT,
        help="what it opens; a new one is made (default: %(default)s)",
    )
    create.add_argument("--agent", help="who acts with it, by name or id (default: the account's)")
    _add_json(_add(group, "list", _list_keys, "list the keys, but not their secrets"))
    revoke = _add(group, "revoke", _revoke_key, "make a key open nothing any more")
    revoke.add_argument("key_id", metavar="ID")


def _add(
    group: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    more: str = "",
) -> argparse.ArgumentParser:
    description = f"{summary[:1].upper()}{summary[1:]}. {more}".strip()
    parser: argparse.ArgumentParser = group.add_parser(name, help=summary, description=description)
    parser.add_argument("--home", help=DESCRIPTIONS["home"], metavar="DIRECTORY")
    parser.set_defaults(run=run)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")


def _add_interval(parser: argparse.ArgumentParser, default: str | None, default_text: str) -> None:
    names = ", ".join(INTERVALS)
    parser.add_argument(
        "--interval",
        choices=INTERVALS,
        default=default,
        help=f"{names} (default: {default_text})",
        metavar="INTERVAL",
    )


def _absolute(text: str) -> str:
    path = os.path.abspath(Path(text).expanduser())
    try:
        path.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("its name is not UTF-8; give it another") from None
    return path


def _month(text: str) -> str:
    try:
        return months(text, text)[0]
    except InvalidParameter:
        raise argparse.ArgumentTypeError(f"{text!r} is no month such as 2024-10") from None
