"""Processes that this one starts: their environment, and a limit on their memory."""

import os
import resource
import sys
from pathlib import Path


def environment() -> dict[str, str]:
    """Return this process's environment and import path, with one thread for numerical libraries."""
    one_thread = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, **one_thread, "PYTHONPATH": path, "RUST_BACKTRACE": "0"}


def limit_memory(size: int) -> None:
    """Let this process allocate ``size`` more bytes; mapped files do not count."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        most = pages * resource.getpagesize() + size
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
