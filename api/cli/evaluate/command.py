"""``candlestep evaluate``: run an agent over a table of open and blind sessions, and report."""

from contextlib import closing
from pathlib import Path

import click

from candlestep.api.admin.operation import Progress
from candlestep.api.cli.messages import REFUSED, print_error, suggest
from candlestep.api.cli.terminal import ProgressBar, print_table
from candlestep.api.evaluation.evaluate import FILE_NAME, evaluate
from candlestep.api.evaluation.judge import Judge
from candlestep.api.evaluation.plan import read_plan
from candlestep.api.evaluation.report import TABLE_HEADER, claims, page, table_rows

PAGE_NAME = "report.html"


@click.command("evaluate")
@click.argument("file", metavar="AGENT.toml", type=click.Path(path_type=Path))
@click.option(
    "--url",
    default="http://127.0.0.1:8000",
    show_default=True,
    metavar="URL",
    help="Server that runs the sessions.",
)
@click.option(
    "--key",
    envvar="CANDLESTEP_KEY",
    metavar="KEY",
    help="API key that owns the sessions; the agent gets keys of its sessions (or CANDLESTEP_KEY).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Folder of the outcomes and the report (default: the name of the file).",
)
def command(file: Path, url: str, key: str | None, output: Path | None) -> int:
    """Run an agent over open and blind sessions, and report.

    Each session of the table is open, blind, mirrored and bootstrapped. What is done is kept in
    FOLDER, and done only once: call it again to go on. The report says what the outcomes may claim.
    """
    plan = read_plan(file)
    folder = file.with_suffix("") if output is None else output
    folder.mkdir(parents=True, exist_ok=True)
    with closing(Judge(url, key)) as judge, ProgressBar() as bar:
        evaluation = evaluate(
            plan,
            judge,
            folder,
            lambda done, total: bar.show(Progress(plan.agent.name, done, total, "sessions")),
        )
    report = folder / PAGE_NAME
    report.write_text(page(evaluation))
    print_table(TABLE_HEADER, table_rows(evaluation.findings), TABLE_HEADER[1:])
    print()
    for claim in claims(evaluation):
        print(claim)
    suggest(f"{report} shows it, {folder / FILE_NAME} has it for programs")
    failed = [one for one in evaluation.outcomes if one.error is not None]
    if failed:
        print_error(f"{failed[0].name}, {failed[0].kind}: {failed[0].error}")
        return REFUSED
    return 0
