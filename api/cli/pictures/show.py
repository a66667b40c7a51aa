"""``candlestep show``: a session, a job or a backtest in brief, with its equity as a sparkline."""

from collections.abc import Sequence

import click

from candlestep.api.admin.pictures import SHOW, NamedText, Summary
from candlestep.api.cli.home import command_on, home_option, run
from candlestep.api.cli.messages import suggest
from candlestep.api.cli.pictures.subject import subject_of
from candlestep.api.cli.terminal import print_json, print_table

_LEVELS = "▁▂▃▄▅▆▇█"


@click.command("show")
@home_option
@click.argument("subject", metavar="SESSION|JOB|BACKTEST|RECORDING")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(home: str | None, subject: str, as_json: bool) -> None:
    """Show a session, job, run, backtest or recording.

    The line under the title is equity over time, from its lowest to its highest value.
    """
    summary = run(SHOW, home, subject_of(subject))
    if as_json:
        print_json(summary)
        return
    _print(summary)
    suggest(f"{command_on(home, f'plot {subject} -o page.html')} writes its page into a file")


def _print(summary: Summary) -> None:
    print(f"{summary.title}: {summary.status}\n{summary.subtitle}")
    if summary.problem is not None:
        print(summary.problem)
    if summary.equity:
        low, high = min(summary.equity), max(summary.equity)
        print(f"\n{sparkline(summary.equity)}  {low:,.2f} to {high:,.2f}")
    for figures in (summary.headline, summary.metrics):
        if figures:
            print()
            print_table(("", "value"), _pairs(figures), ("value",))
    for table in summary.tables:
        print(f"\n{table.title}")
        print_table(table.columns, table.rows, table.numbers)


def _pairs(figures: Sequence[NamedText]) -> list[tuple[str, str]]:
    return [(figure.name, figure.text) for figure in figures]


def sparkline(values: Sequence[float]) -> str:
    """Return values as a line of blocks, of which the lowest is the lowest value.

    >>> sparkline([1, 2, 3])
    '▁▄█'
    """
    low, high = min(values), max(values)
    if low == high:
        return _LEVELS[0] * len(values)
    steps = len(_LEVELS) - 1
    return "".join(_LEVELS[int((value - low) / (high - low) * steps)] for value in values)
