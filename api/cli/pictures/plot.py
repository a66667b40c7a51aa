"""``candlestep plot``: the page of a session, a job, a backtest or a recording, as a file."""

from pathlib import Path

import click

from candlestep.api.admin.pictures import PLOT
from candlestep.api.cli.home import home_option, run
from candlestep.api.cli.pictures.subject import subject_of


@click.command("plot")
@home_option
@click.argument("subject", metavar="SESSION|JOB|BACKTEST|RECORDING")
@click.option(
    "-o", "--output", required=True, metavar="FILE.html",
    type=click.Path(dir_okay=False, writable=True), help="File to write.",
)  # fmt: skip
def command(home: str | None, subject: str, output: str) -> None:
    """Write the page of a session into a file that needs no server.

    The argument is the id of a session, a job, a run or a backtest, or the path of a recording,
    which is run on the candles of the home. The file has the chart, all tables and metrics, and
    loads nothing from anywhere.
    """
    page = run(PLOT, home, subject_of(subject))
    # Imported late: the help of this command needs neither templates nor the library of charts.
    from candlestep.api.views.html import with_library

    path = Path(output)
    path.write_text(with_library(page.html), encoding="utf-8")
    print(f"{path}: {page.title} ({path.stat().st_size / 1e6:.1f} MB)")
