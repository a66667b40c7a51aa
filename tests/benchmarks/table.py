"""The rows of the speed table: a measurement, its baseline from the same run, and its bar."""

import gc
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """A measurement; ``passed`` is whether it meets the bar."""

    what: str
    ours: str
    baseline: str
    ratio: str
    bar: str
    passed: bool


def seconds(work: Callable[[], object], repeat: int = 5) -> float:
    """Return the median wall-clock seconds of ``repeat`` runs of ``work``, without garbage collection."""
    durations = []
    for _ in range(repeat):
        gc.collect()
        gc.disable()
        began = time.perf_counter()
        work()
        durations.append(time.perf_counter() - began)
        gc.enable()
    return statistics.median(durations)


def print_table(rows: list[Row]) -> None:
    """Print the rows as a Markdown table, then the machine they were measured on."""
    head = ("what", "ours", "baseline", "ratio", "bar", "")
    cells = [head, *((*row[:5], "" if row.passed else "missed") for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for index, row in enumerate(cells):
        print(
            "| "
            + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
            + " |"
        )
        if index == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print(f"\n{machine()}")


def machine() -> str:
    """Return the processor and the Python version of this machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0].split(":")[1].strip() if names else model
    return f"One core of {model}, Python {platform.python_version()}"
