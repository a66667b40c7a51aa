"""``candlestep data``: import, download, list and export candles."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from candlestep.api.admin import candles
from candlestep.api.admin.candles import Import, ImportReport
from candlestep.api.admin.operation import EmptyInput, Progress
from candlestep.api.cli.files import absolute_path, complete_file, file_name
from candlestep.api.cli.group import CommandGroup
from candlestep.api.cli.home import command_on, home_option, run
from candlestep.api.cli.messages import REFUSED, print_error, suggest
from candlestep.api.cli.terminal import ProgressBar, minute, print_json, print_table
from candlestep.api.settings import home_directory
from candlestep.data.imports.archive import DEFAULT_BASE_URL, fetch_month, months
from candlestep.data.market.catalogue import Series
from candlestep.data.symbols import DEFAULT_EXCHANGE, parse_symbol
from candlestep.sandbox import INTERVALS, InvalidParameter, format_time, interval_name

DOWNLOADS = "downloads"
"""Directory in the home for downloaded files."""

_GAPS_SHOWN = 10


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


@click.group("data", cls=CommandGroup)
def command() -> None:
    """Import, list and export candles."""


@command.command("import")
@home_option
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=file_name,
    metavar="FILE...",
    shell_complete=complete_file,
)
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
def import_files(
    home: str | None,
    files: tuple[str, ...],
    symbol: str | None,
    interval: str | None,
    exchange: str,
) -> int:
    """Import candles from CSV, archive, Parquet or JSON files.

    Each file is imported as a whole or, if one of its rows is bad, not at all.
    """
    paths = [absolute_path(file) for file in files]
    request = candles.ImportFiles(paths, symbol, interval, exchange)
    return _print_report(home, run(candles.IMPORT, home, request))


@command.command("list")
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_series(home: str | None, as_json: bool) -> int:
    """List the candles: range, rows and gaps of each series."""
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
    return 0


@command.command("sample")
@home_option
def load_sample(home: str | None) -> int:
    """Load the sample market: two synthetic symbols."""
    report = run(candles.SAMPLE, home, EmptyInput())
    print("The sample market is synthetic: nothing in it ever happened on a market.\n")
    return _print_report(home, report)


@command.command("drop-sample")
@home_option
def drop_sample(home: str | None) -> int:
    """Remove the sample market."""
    symbols = run(candles.DROP_SAMPLE, home, EmptyInput()).symbols
    if not symbols:
        print("There is no sample market here.")
        return 0
    print(f"The sample market of {', '.join(symbols)} is gone; sessions that ran on it keep it.")
    return 0


@command.command("download")
@home_option
@click.argument("symbols", nargs=-1, required=True, metavar="SYMBOL...")
@click.option("--from", "first", required=True, type=_month, metavar="YYYY-MM", help="First month.")
@click.option(
    "--to", "last", type=_month, metavar="YYYY-MM", help="Last month (default: the first)."
)
@_interval_option("1m", "1m")
@click.option(
    "--base-url",
    default=DEFAULT_BASE_URL,
    metavar="URL",
    help=f"URL of the archive (default {DEFAULT_BASE_URL}).",
)
def download(
    home: str | None,
    symbols: tuple[str, ...],
    first: str,
    last: str | None,
    interval: str,
    base_url: str,
) -> int:
    """Download months of candles from the public archive.

    The files are verified, kept in the home and imported; an interrupted download is resumed.
    """
    if last is not None and last < first:
        raise InvalidParameter("--to", f"{last} is before {first}")
    spellings = {parse_symbol(symbol).symbol: symbol for symbol in symbols}
    wanted = [(symbol, month) for symbol in spellings for month in months(first, last or first)]
    # All files come first: if one fails, those before it need not be fetched again.
    files = _fetch(wanted, home_directory(home) / DOWNLOADS, interval, base_url)
    report = ImportReport([], [])
    for symbol, spelling in spellings.items():
        paths = [str(path) for (of_symbol, _), path in files.items() if of_symbol == symbol]
        if paths:
            request = candles.ImportFiles(paths, spelling, interval)
            imported = run(candles.IMPORT, home, request)
            report.imports.extend(imported.imports)
            report.refusals.extend(imported.refusals)
    code = _print_report(home, report)
    return code if len(files) == len(wanted) else REFUSED


def _fetch(
    wanted: Sequence[tuple[str, str]], directory: Path, interval: str, base_url: str
) -> dict[tuple[str, str], Path]:
    """Return the files of the symbols and months that the archive has; report the others."""
    files = {}
    with ProgressBar() as bar:
        for symbol, month in wanted:
            part = f"{symbol} {month}"

            def report_bytes(done: int, total: int, part: str = part) -> None:
                bar.show(Progress(part, done, total, "bytes"))

            path = fetch_month(
                symbol,
                month,
                directory,
                interval=interval,
                base_url=base_url,
                progress=report_bytes,
            )
            if path is None:
                print_error(f"the archive has no {interval} candles of {part}")
            else:
                files[symbol, month] = path
    return files


@command.command("export")
@home_option
@click.argument("path", type=file_name, metavar="PATH", shell_complete=complete_file)
def export(home: str | None, path: str) -> int:
    """Write a copy of the store for the DuckDB shell."""
    exported = run(candles.EXPORT, home, candles.ExportTo(absolute_path(path)))
    print(f"{exported.path} is a copy of the store, of {exported.size / 1e6:,.1f} MB.")
    suggest(f"duckdb {exported.path} opens it, SHOW TABLES; lists its tables")
    return 0


@command.command("prune")
@home_option
def prune(home: str | None) -> int:
    """Drop superseded candles that no session needs."""
    rows = run(candles.PRUNE, home, EmptyInput()).rows
    print(f"{rows:,} superseded candles dropped.")
    return 0


def _print_report(home: str | None, report: ImportReport) -> int:
    """Print the imports as a table and the refusals as errors; return the exit code."""
    for refusal in report.refusals:
        print_error(refusal.message)
    if report.imports:
        _print_imports(report.imports)
        if not any(imported.summary.import_number for imported in report.imports):
            print("\nNothing has changed: these candles were there already.")
        serve, show = command_on(home, "serve"), command_on(home, "data list")
        suggest(f"{serve} starts a server if none is running, {show} lists all candles")
    return REFUSED if report.refusals else 0


def _print_imports(imports: Sequence[Import]) -> None:
    header = ("symbol", "interval", "from (UTC)", "to (UTC)", "rows", "new", "replaced", "gaps",
              "source")  # fmt: skip
    rows = [
        (
            imported.summary.symbol,
            interval_name(imported.summary.interval),
            minute(imported.summary.start),
            minute(imported.summary.end),
            f"{imported.summary.rows:,}",
            f"{imported.summary.new:,}",
            f"{imported.summary.replaced:,}",
            f"{len(imported.summary.gaps):,}",
            imported.source,
        )
        for imported in imports
    ]
    print_table(header, rows, numbers=("rows", "new", "replaced", "gaps"))


def _print_series(all_series: Sequence[Series]) -> None:
    header = ("exchange", "symbol", "interval", "from (UTC)", "to (UTC)", "rows", "gaps", "")
    rows = [
        (
            series.exchange,
            series.symbol,
            interval_name(series.interval),
            minute(series.start),
            minute(series.end),
            f"{series.rows:,}",
            f"{len(series.gaps):,}",
            "synthetic" if series.synthetic else "",
        )
        for series in all_series
    ]
    print_table(header, rows, numbers=("rows", "gaps"))


def _print_gaps(all_series: Sequence[Series]) -> None:
    gaps = [(series, gap) for series in all_series for gap in series.gaps]
    if not gaps:
        return
    print()
    rows = [
        (series.symbol, interval_name(series.interval), minute(start), minute(end))
        for series, (start, end) in gaps[:_GAPS_SHOWN]
    ]
    print_table(("gap in", "", "from (UTC)", "to (UTC)"), rows)
    if len(gaps) > _GAPS_SHOWN:
        print(f"and {len(gaps) - _GAPS_SHOWN:,} more; --json lists all of them")


def _as_json(series: Series) -> dict[str, Any]:
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
