"""``candlestep data``: import, download, list and export candles and what perpetuals have besides."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import click

from candlestep.api.admin import backups, candles
from candlestep.api.admin.operation import EmptyInput, progress_of
from candlestep.api.cli.files import absolute_path, file_argument
from candlestep.api.cli.group import CommandGroup
from candlestep.api.cli.home import command_on, home_option, run
from candlestep.api.cli.instruments import list_instruments, show_or_change
from candlestep.api.cli.messages import REFUSED, print_error, suggest
from candlestep.api.cli.terminal import ProgressBar, minute, print_json, print_table
from candlestep.api.settings import home_directory
from candlestep.data.imports.archive import (
    DEFAULT_BASE_URL,
    RETRY_WAITS,
    ArchivedMonth,
    fetch_month,
    months,
)
from candlestep.data.imports.evidence import perpetual
from candlestep.data.imports.importer import ImportSummary
from candlestep.data.imports.kinds import KIND_WORDS, Kind
from candlestep.data.imports.series import Taken
from candlestep.data.imports.storing.removal import Removal
from candlestep.data.market.catalogue import Series
from candlestep.data.store.home import open_home
from candlestep.data.symbols import DEFAULT_EXCHANGE, is_perpetual, parse_symbol
from candlestep.sandbox import INTERVALS, InvalidParameter, format_time, interval_name, parse_time

DOWNLOADS = "downloads"
"""Directory in the home for downloaded files."""

_GAPS_SHOWN = 10
_KINDS_OF_SPOT: tuple[Kind, ...] = ("candles",)
_KINDS_OF_PERPETUALS: tuple[Kind, ...] = ("candles", "mark", "funding")
_PERIOD = ("interval", "from (UTC)", "to (UTC)")


def _interval_option(default: str | None, default_text: str) -> Callable[..., Any]:
    return click.option(
        "--interval",
        type=click.Choice(list(INTERVALS)),
        default=default,
        metavar="INTERVAL",
        help=f"Interval of the candles: {', '.join(INTERVALS)} (default: {default_text}).",
    )


def _month(text: str) -> str:
    try:
        return months(text, text)[0]
    except InvalidParameter:
        raise click.BadParameter(f"{text!r} is not a month such as 2024-10") from None


def _time(text: str) -> int:
    try:
        return parse_time(text, "time")
    except InvalidParameter as error:
        raise click.BadParameter(error.message.removeprefix("time: ")) from None


@click.group("data", cls=CommandGroup)
def command() -> None:
    """Import, list and export candles.

    Mark prices, funding rates and margin tiers of perpetuals too.
    """


@command.command("import")
@home_option
@file_argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--symbol",
    metavar="SYMBOL",
    help="Symbol of the candles, such as BTCUSDT or BTC/USDT (default: as in the file name).",
)
@_interval_option(None, "inferred from the file")
@click.option(
    "--exchange",
    default=DEFAULT_EXCHANGE,
    metavar="EXCHANGE",
    help=f"Exchange of the candles (default {DEFAULT_EXCHANGE}).",
)
@click.option(
    "--time-format",
    metavar="FORMAT",
    help="Format of the times, in the directives of strptime, such as '%d.%m.%Y %H:%M'.",
)
@click.option(
    "--date",
    "day",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="Day of times that have no date, or from which margin tiers are in force.",
)
@click.option(
    "--decimal",
    type=click.Choice([".", ","]),
    metavar="MARK",
    help="Decimal mark of the numbers, '.' or ','; the other one separates thousands.",
)
@click.option(
    "--as-dates",
    is_flag=True,
    help="Import daily candles of a market that closes before midnight UTC as UTC days.",
)
@click.option("--no-volume", is_flag=True, help="Do not use the volume, for example of ticks.")
@click.option(
    "--kind",
    type=click.Choice(list(KIND_WORDS)),
    metavar="KIND",
    help=f"Kind of the rows: {', '.join(KIND_WORDS)} (default: as in the file's name and header).",
)
@click.option("--perp", "is_perp", is_flag=True, help="Import under the symbol of the perpetual.")
@click.option(
    "--dry-run", "is_trial", is_flag=True, help="Show what would be imported, and import nothing."
)
def import_files(
    home: str | None, files: Sequence[str], day: datetime | None, **options: Any
) -> int:
    """Import candles from CSV, JSON, Parquet and Feather files, packed or not.

    Mark prices, funding rates and margin tiers of perpetuals are imported alike. Columns, units of
    time, kind, symbol and interval are told from each file; --dry-run shows them. A file is imported
    as a whole or, if one of its rows is bad, not at all.
    """
    paths = [absolute_path(file) for file in files]
    request = candles.ImportFiles(paths, day=None if day is None else day.date(), **options)
    return _print_report(home, run(candles.IMPORT, home, request))


@command.command("list")
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_series(home: str | None, as_json: bool) -> None:
    """List the data: range, rows and gaps of each series."""
    all_series = run(candles.LIST, home, EmptyInput()).series
    if as_json:
        print_json([_as_json(series) for series in all_series])
    elif all_series:
        _print_series(all_series)
        _print_gaps(all_series)
    else:
        print("There are no candles yet.")
        load, sample = command_on(home, "data import FILE…"), command_on(home, "data sample")
        suggest(f"{load} imports candles, {sample} loads a sample market")


@command.command("remove")
@home_option
@click.argument("symbol", metavar="SYMBOL")
@_interval_option(None, "every interval")
@click.option(
    "--exchange",
    default=DEFAULT_EXCHANGE,
    metavar="EXCHANGE",
    help=f"Exchange of the candles (default {DEFAULT_EXCHANGE}).",
)
@click.option(
    "--kind",
    type=click.Choice(list(KIND_WORDS)),
    default="candles",
    metavar="KIND",
    help=f"Kind of the rows: {', '.join(KIND_WORDS)} (default: candles).",
)
@click.option(
    "--from",
    "start",
    type=_time,
    metavar="TIME",
    help="Open time of the first candle to remove, such as 2024-10-01 (default: the first).",
)
@click.option(
    "--to",
    "end",
    type=_time,
    metavar="TIME",
    help="Time before which the last candle to remove opens (default: remove to the end).",
)
def remove(home: str | None, **options: Any) -> None:
    """Remove candles of a symbol, or with --kind its mark prices, funding rates or margin tiers.

    Sessions that have started keep them.
    """
    given = {name: value for name, value in options.items() if value is not None}
    removals = run(candles.REMOVE, home, candles.RemoveCandles(**given)).removals
    _print_removals(removals)
    print(f"\nSessions that have started keep these {KIND_WORDS[removals[0].kind]}.")
    show, prune = command_on(home, "data list"), command_on(home, "data prune")
    suggest(f"{show} lists the candles that are left, {prune} drops those that no session needs")


command.add_command(list_instruments)
command.add_command(show_or_change)


@command.command("sample")
@home_option
def load_sample(home: str | None) -> int:
    """Load the sample market: two synthetic pairs, and a perpetual with funding rates."""
    report = run(candles.SAMPLE, home, EmptyInput())
    print("The sample market is synthetic: nothing in it ever happened on a market.\n")
    return _print_report(home, report)


@command.command("drop-sample")
@home_option
def drop_sample(home: str | None) -> None:
    """Remove the sample market."""
    symbols = run(candles.DROP_SAMPLE, home, EmptyInput()).symbols
    if symbols:
        names = ", ".join(symbols)
        print(f"The sample market of {names} is gone; sessions that ran on it keep it.")
    else:
        print("There is no sample market here.")


@command.command("download")
@home_option
@click.argument("symbols", nargs=-1, required=True, metavar="SYMBOL...")
@click.option("--from", "first", required=True, type=_month, metavar="YYYY-MM", help="First month.")
@click.option(
    "--to", "last", type=_month, metavar="YYYY-MM", help="Last month (default: the first)."
)
@_interval_option("1m", "1m")
@click.option(
    "--perp",
    "is_perp",
    is_flag=True,
    help="Download the perpetuals of these symbols, with mark prices and funding rates.",
)
@click.option(
    "--base-url",
    default=DEFAULT_BASE_URL,
    metavar="URL",
    help=f"URL of the archive (default {DEFAULT_BASE_URL}).",
)
def download(**options: Any) -> int:
    """Download months of candles from the public archive.

    Those of perpetuals come with mark prices and funding rates. The files are verified, kept in the
    home and imported; an interrupted download is resumed.
    """
    return download_months(**options)


def download_months(
    home: str | None,
    symbols: Sequence[str],
    first: str,
    last: str | None,
    interval: str,
    base_url: str,
    is_perp: bool = False,
    retry_waits: Sequence[float] = RETRY_WAITS,
) -> int:
    """Download months of candles, import them, and print the report; return the exit code.

    Perpetuals come with mark prices and funding rates. A fetch that fails is tried again after each
    of ``retry_waits``, in seconds.
    """
    if last is not None and last < first:
        raise InvalidParameter("--to", f"{last} is before {first}")
    pairs = [parse_symbol(symbol) for symbol in symbols]
    # Only a spelling with its separator tells the quote currency of any pair.
    spellings = {
        perpetual(pair).symbol if is_perp else pair.symbol: f"{pair.base}/{pair.quote}"
        for pair in pairs
    }
    wanted = [
        ArchivedMonth(symbol, month, interval, kind)
        for symbol, month in product(spellings, months(first, last or first))
        for kind in (_KINDS_OF_PERPETUALS if is_perpetual(symbol) else _KINDS_OF_SPOT)
    ]
    # The downloads come first, into a home that is for its user alone.
    open_home(home_directory(home))
    directory = home_directory(home) / DOWNLOADS
    fetch = partial(fetch_month, directory=directory, base_url=base_url, retry_waits=retry_waits)
    # All files come first: if one fails, those before it need not be fetched again.
    files = _fetch(fetch, wanted)
    report = candles.ImportReport([], [])
    for (symbol, kind), paths in files.items():
        request = candles.ImportFiles(
            paths,
            spellings[symbol],
            None if kind == "funding" else interval,
            kind=kind,
            is_perp=is_perpetual(symbol),
        )
        imported = run(candles.IMPORT, home, request)
        report.imports.extend(imported.imports)
        report.refusals.extend(imported.refusals)
    code = _print_report(home, report)
    return code if sum(map(len, files.values())) == len(wanted) else REFUSED


def _fetch(
    fetch: Callable[..., Path | None], wanted: Sequence[ArchivedMonth]
) -> dict[tuple[str, Kind], list[str]]:
    """Return the files that the archive has, by symbol and kind; report the months it lacks."""
    files: dict[tuple[str, Kind], list[str]] = {}
    with ProgressBar() as bar:
        for one in wanted:
            part = f"{one.symbol} {one.month}"
            path = fetch(one, progress=progress_of(part, "bytes", bar.show))
            if path is None:
                length = "" if one.kind == "funding" else f"{one.interval} "
                print_error(f"the archive has no {length}{KIND_WORDS[one.kind]} of {part}")
            else:
                files.setdefault((one.symbol, one.kind), []).append(str(path))
    return files


@command.command("export")
@home_option
@file_argument("path", metavar="PATH")
def export(home: str | None, path: str) -> None:
    """Write a copy of the store for the DuckDB shell."""
    exported = run(candles.EXPORT, home, candles.ExportTo(absolute_path(path)))
    print(f"{exported.path} is a copy of the store, of {exported.size / 1e6:,.1f} MB.")
    suggest(f"duckdb {exported.path} opens it, SHOW TABLES; lists its tables")


@command.command("prune")
@home_option
@click.option(
    "--journals",
    "with_journals",
    is_flag=True,
    help="Also delete archived journals: their sessions keep results, and lose their recordings.",
)
def prune(home: str | None, with_journals: bool) -> None:
    """Drop superseded candles that no session needs."""
    rows = run(candles.PRUNE, home, EmptyInput()).rows
    print(f"{rows:,} superseded candles dropped.")
    if with_journals:
        pruned = run(backups.PRUNE_JOURNALS, home, EmptyInput())
        print(f"{pruned.journals:,} archived journals deleted, {pruned.size / 1e6:,.1f} MB.")


def _print_report(home: str | None, report: candles.ImportReport) -> int:
    """Print the imports as a table and the refusals as errors; return the exit code."""
    for refusal in report.refusals:
        print_error(refusal.message)
    for preview in report.previews:
        _print_taken(preview.source, preview.taken)
        _print_candles(preview)
    if report.previews:
        print("Nothing was imported.")
    if report.imports:
        _print_imports(report.imports)
        from_files = [(one.source, taken) for one in report.imports if (taken := one.summary.taken)]
        if from_files:
            print()
        for source, taken in from_files:
            _print_taken(source, taken)
        if not any(imported.summary.import_number for imported in report.imports):
            print("\nNothing has changed: these candles were there already.")
        serve, show = command_on(home, "serve"), command_on(home, "data list")
        suggest(f"{serve} starts a server if none is running, {show} lists all candles")
    return REFUSED if report.refusals else 0


def _print_taken(source: str, taken: Taken) -> None:
    """Print what of a file was taken for what."""
    kind = "" if taken.kind == "candles" else f"{KIND_WORDS[taken.kind]} of "
    print(f"{source}: {kind}{taken.symbol}" + (f", {taken.interval}" * (taken.kind != "tiers")))
    match taken.kind:
        case "candles":
            print(f"  times {taken.times}; prices {taken.prices}; volume {taken.volume}")
        case "mark":
            print(f"  times {taken.times}; prices {taken.prices}")
        case "funding":
            print(f"  times {taken.times}; {taken.prices}")
        case "tiers":
            print(f"  {taken.times}; {taken.prices}")
    for note in taken.notes:
        print(f"  {note}")


def _print_candles(preview: candles.Preview) -> None:
    """Print the first and the last row of a series."""
    for name, (first, *numbers) in (("first", preview.first), ("last", preview.last)):
        time = f"{first:.15g}" if preview.taken.kind == "tiers" else minute(int(first))
        values = " ".join(f"{number:.15g}" for number in numbers)
        print(f"  {name:5} {time}  {values}")
    print(f"  {preview.rows:,} rows\n")


def _print_imports(imports: Sequence[candles.Import]) -> None:
    counted = ("rows", "new", "replaced", "gaps")
    rows = []
    for imported in imports:
        summary = imported.summary
        counts = (summary.rows, summary.new, summary.replaced, len(summary.gaps))
        rows.append((summary.symbol, *_period(summary), *counts, imported.source))
    print_table(("symbol", *_PERIOD, *counted, "source"), rows, numbers=counted)


def _print_removals(removals: Sequence[Removal]) -> None:
    rows = [
        (removal.exchange, removal.symbol, *_period(removal), removal.rows, removal.rows_left)
        for removal in removals
    ]
    header = ("exchange", "symbol", *_PERIOD, "removed", "left")
    print_table(header, rows, numbers=("removed", "left"))


def _print_series(all_series: Sequence[Series]) -> None:
    rows = []
    for series in all_series:
        counts = (series.rows, len(series.gaps))
        mark = "synthetic" if series.synthetic else ""
        rows.append((series.exchange, series.symbol, *_period(series), *counts, mark))
    header = ("exchange", "symbol", *_PERIOD, "rows", "gaps", "")
    print_table(header, rows, numbers=("rows", "gaps"))


def _period(series: Series | ImportSummary | Removal) -> tuple[str, str, str]:
    """Return the cells of a table under ``_PERIOD``."""
    return _line(series), minute(series.start), minute(series.end)


def _line(series: Series | ImportSummary | Removal) -> str:
    """Return the interval of candles, ``1h``, or the kind of other rows: ``mark 1h``, ``funding``."""
    if series.kind == "candles":
        return interval_name(series.interval)
    return f"{series.kind} {interval_name(series.interval)}" if series.interval else series.kind


def _print_gaps(all_series: Sequence[Series]) -> None:
    gaps = [(series, gap) for series in all_series for gap in series.gaps]
    if not gaps:
        return
    print()
    rows = [
        (series.symbol, _line(series), minute(start), minute(end))
        for series, (start, end) in gaps[:_GAPS_SHOWN]
    ]
    print_table(("gap in", "", "from (UTC)", "to (UTC)"), rows)
    if len(gaps) > _GAPS_SHOWN:
        print(f"and {len(gaps) - _GAPS_SHOWN:,} more; --json lists all of them")


def _as_json(series: Series) -> dict[str, Any]:
    return {
        "exchange": series.exchange,
        "symbol": series.symbol,
        **({} if series.kind == "candles" else {"kind": series.kind}),
        "interval": interval_name(series.interval) if series.interval else None,
        **_times_as_json(series.start, series.end),
        "rows": series.rows,
        "gaps": [_times_as_json(start, end) for start, end in series.gaps],
        "synthetic": series.synthetic,
    }


def _times_as_json(start: int, end: int) -> dict[str, str]:
    return {"start": format_time(start), "end": format_time(end)}
