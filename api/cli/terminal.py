"""What a person sees of a command: aligned tables, and a progress bar while it works."""

import shutil
import time
from collections.abc import Sequence
from typing import Self, TextIO

from candlestep.api.admin.operation import Progress

_BAR = 24
_SECONDS_BETWEEN = 0.1
_MEGABYTE = 1_000_000


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """Rows under a header, in aligned columns; those named in ``numbers`` to the right."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in numbers else cell.ljust(width)
            for cell, width, name in zip(line, widths, header, strict=True)
        ).rstrip()
        for line in lines
    )


class ProgressBar:
    """One line that shows how far a command is; nothing where the stream is no terminal.

    Use it in a ``with`` statement, which wipes the line at the end.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shows = stream.isatty()
        self._part = ""
        self._began = 0.0
        self._shown = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._shown:
            self._write("")

    def show(self, progress: Progress) -> None:
        """Show this, unless something was shown just now."""
        if not self._shows:
            return
        now = time.monotonic()
        if progress.part != self._part:
            self._part, self._began = progress.part, now
        elif now - self._shown < _SECONDS_BETWEEN and progress.done < progress.total:
            return
        self._shown = now
        self._write(_line(progress, now - self._began))

    def _write(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r\033[K{line[:width]}")
        self._stream.flush()


def _line(progress: Progress, seconds: float) -> str:
    share = min(1.0, progress.done / progress.total) if progress.total else 0.0
    bar = ("#" * round(share * _BAR)).ljust(_BAR, "-")
    rate = f"  {_amount(progress.done / seconds, progress.unit)}/s" if seconds > 0 else ""
    done = _amount(progress.done, progress.unit)
    return f"{progress.part}  [{bar}] {share:4.0%}  {done}{rate}"


def _amount(count: float, unit: str) -> str:
    return f"{count / _MEGABYTE:.1f} MB" if unit == "bytes" else f"{count:,.0f} {unit}"
