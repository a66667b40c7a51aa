"""Output for people and programs: tables, JSON, and a progress bar.

On a terminal a table has a rule under a bold header, and a long operation a progress bar. Anywhere
else a table is plain, aligned text, and nothing shows progress. No value is cut or wrapped.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Self

import msgspec
from rich import box
from rich import progress as rich_progress
from rich.console import Console
from rich.table import Table
from rich.text import Text

from candlestep.api.admin.operation import Progress
from candlestep.sandbox import format_time

_UNBOUNDED = 1 << 20
_MEGABYTE = 1_000_000


def print_table(
    header: Sequence[str], rows: Iterable[Sequence[str | int]], numbers: Sequence[str] = ()
) -> None:
    """Print rows under a header, with the columns named in ``numbers`` aligned to the right.

    An integer is printed with commas between thousands.
    """
    is_terminal = sys.stdout.isatty()
    table = Table(
        box=box.SIMPLE_HEAD if is_terminal else None,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1 if is_terminal else 2, 0, 0),
        header_style="bold" if is_terminal else "",
    )
    for name in header:
        table.add_column(Text(name), justify="right" if name in numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell if isinstance(cell, str) else f"{cell:,}") for cell in row))
    console = Console(force_terminal=is_terminal, width=_UNBOUNDED, highlight=False)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().removesuffix("\n").split("\n"):
        print(line.rstrip())


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    print(msgspec.json.format(msgspec.json.encode(value)).decode())


def minute(time: int) -> str:
    """Return a time in milliseconds as a date and a minute, in UTC."""
    return format_time(time)[:16].replace("T", " ")


class ProgressBar:
    """A line on standard error that shows the progress of an operation, on a terminal only.

    Use it in a ``with`` statement, which removes the line at the end.
    """

    def __init__(self) -> None:
        self._part: str | None = None
        self._line = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}", markup=False),
            rich_progress.BarColumn(),
            rich_progress.TaskProgressColumn(),
            _AmountColumn(),
            rich_progress.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._part is not None:
            self._line.stop()

    def show(self, progress: Progress) -> None:
        """Show the progress of one part, in place of what the line shows."""
        total = progress.total or None
        if progress.part == self._part:
            self._line.update(self._line.task_ids[0], completed=progress.done, total=total)
            return
        for task in self._line.task_ids:
            self._line.remove_task(task)
        self._part = progress.part
        self._line.add_task(self._part, completed=progress.done, total=total, unit=progress.unit)
        self._line.start()


class _AmountColumn(rich_progress.ProgressColumn):
    """The amount that is done, and the amount a second."""

    def render(self, task: rich_progress.Task) -> Text:
        unit: str = task.fields["unit"]
        speed = task.finished_speed or task.speed
        rate = f"  {_amount(speed, unit)}/s" if speed else ""
        return Text(f"{_amount(task.completed, unit)}{rate}")


def _amount(count: float, unit: str) -> str:
    return f"{count / _MEGABYTE:.1f} MB" if unit == "bytes" else f"{count:,.0f} {unit}"
