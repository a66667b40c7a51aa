"""A limit of time for a whole run of the tests, so that none stands still: ``--most-minutes``.

A single test has the limit of pytest-timeout, which fails it with the stack of every thread. Where
that cannot help, because the test hangs outside of Python or while it is torn down, faulthandler
prints the stacks and ends the process of the test; ``pyproject.toml`` has both times. This is for
what is left: many slow tests, and processes that hang between tests or when they end.
"""

import faulthandler
import os
import threading

import pytest

_STDERR = 2
_SECONDS_FOR_STACKS = 5
"""The time that the processes of the tests have to print their stacks, before all is over."""


class TimeLimit:
    """Ends the run when its time is over, and prints where each process stands."""

    def __init__(self, seconds: float, *, is_worker: bool) -> None:
        self._seconds = seconds
        self._is_worker = is_worker
        self._under_way: set[str] = set()
        self._stderr = os.dup(_STDERR)
        """The stream itself, whatever a test has put in its place."""

    def pytest_sessionstart(self) -> None:
        seconds = self._seconds + (0 if self._is_worker else _SECONDS_FOR_STACKS)
        timer = threading.Timer(seconds, self._print_stacks if self._is_worker else self._end)
        timer.daemon = True
        timer.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._under_way.add(nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._under_way.discard(nodeid)

    def _print_stacks(self) -> None:
        faulthandler.dump_traceback(self._stderr)

    def _end(self) -> None:
        """End this process, whereupon its workers end too."""
        self._print_stacks()
        tests = ", ".join(sorted(self._under_way)) or "none"
        message = f"\nThe tests take more than {self._seconds / 60:g} minutes. Under way: {tests}\n"
        os.write(self._stderr, message.encode())
        os._exit(pytest.ExitCode.INTERRUPTED)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--most-minutes",
        type=float,
        help="end the run after so many minutes, and print where it stands",
    )


def pytest_configure(config: pytest.Config) -> None:
    minutes: float | None = config.getoption("--most-minutes")
    if minutes is not None:
        limit = TimeLimit(60 * minutes, is_worker=hasattr(config, "workerinput"))
        config.pluginmanager.register(limit, "time_limit")
