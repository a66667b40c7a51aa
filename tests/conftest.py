"""Options of the test command, and the profile of hypothesis.

A plain run tries the same examples each time, so that a change is judged by itself and not by the
luck of others. ``--oracle-examples`` (or ORACLE_EXAMPLES) draws new ones, so many for each property
of the exchange; ``--fuzz-examples`` (or FUZZ_EXAMPLES) as many random requests to each operation.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

DEFAULT_EXAMPLES = 50

pytest_plugins = ["tests.support.sample_server", "tests.support.time_limit"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--oracle-examples",
        type=int,
        default=int(os.environ.get("ORACLE_EXAMPLES", "0")),
        help="number of new random sessions for each property of the exchange"
        f" (0: {DEFAULT_EXAMPLES}, the same ones each time)",
    )
    parser.addoption(
        "--fuzz-examples",
        type=int,
        default=int(os.environ.get("FUZZ_EXAMPLES", "0")),
        help="number of random requests to each operation of the API (0: a few, the same ones each time)",
    )


def pytest_configure(config: pytest.Config) -> None:
    new_examples = config.getoption("--oracle-examples")
    settings.register_profile(
        "candlestep",
        max_examples=new_examples or DEFAULT_EXAMPLES,
        deadline=None,
        derandomize=not new_examples,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    settings.load_profile("candlestep")
    if not new_examples:
        # It draws constants of the modules that are loaded by then, which the tests before decide.
        providers._get_local_constants = lambda: providers._local_constants
