"""Options of the test command, and the profile of hypothesis.

``--oracle-examples`` (or ORACLE_EXAMPLES) is the number of examples of each property of the
exchange, ``--fuzz-examples`` (or FUZZ_EXAMPLES) the number of random requests per operation.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

DEFAULT_EXAMPLES = 80

pytest_plugins = ["tests.support.sample_server", "tests.support.time_limit"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--oracle-examples",
        type=int,
        default=int(os.environ.get("ORACLE_EXAMPLES", DEFAULT_EXAMPLES)),
        help="number of random sessions that each property test of the exchange tries",
    )
    parser.addoption(
        "--fuzz-examples",
        type=int,
        default=int(os.environ.get("FUZZ_EXAMPLES", "0")),
        help="number of random requests to each operation of the API (0: a few, the same ones each time)",
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.register_profile(
        "candlestep",
        max_examples=config.getoption("--oracle-examples"),
        deadline=None,
        derandomize=False,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    settings.load_profile("candlestep")
