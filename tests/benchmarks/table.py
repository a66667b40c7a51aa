"""One row a measurement: ours, a baseline measured in the same run, and what must hold."""

import gc
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """A measurement; ``passed`` compares it with the bar."""

    what: str
    ours: str
    baseline: str
    ratio: str
    bar: str
    passed: bool


def seconds(work: Callable[[], object], repeat: int = 5) -> float:
    """Median wall-clock seconds of ``work`` over ``repeat`` runs, without garbage collection."""
    taken = []
    for _ in range(repeat):
        gc.collect()
        gc.disable()
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
        gc.enable()
    return statistics.median(taken)


def print_table(rows: list[Row]) -> None:
    """Print the rows as a Markdown table, and the machine they were measured on."""
    head = ("what", "ours", "baseline", "ratio", "bar", "")
    cells = [head, *((*row[:5], "pass" if row.passed else "MISSED") for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for index, row in enumerate(cells):
        print("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |")
        if index == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print(f"\n{machine()}")


def machine() -> str:
    """Processor and Python of this machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0].split(":")[1].strip() if names else model
    return f"One core of {model}, Python {platform.python_version()}"
