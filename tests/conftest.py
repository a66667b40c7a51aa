"""How many examples hypothesis tries: ``--oracle-examples`` or ``ORACLE_EXAMPLES``; of requests
to each operation of the API ``--fuzz-examples`` or ``FUZZ_EXAMPLES``."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

DEFAULT_EXAMPLES = 300

pytest_plugins = ["tests.support.sample_server"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--oracle-examples",
        type=int,
        default=int(os.environ.get("ORACLE_EXAMPLES", DEFAULT_EXAMPLES)),
        help="how many random sessions each property test of the exchange tries",
    )
    parser.addoption(
        "--fuzz-examples",
        type=int,
        default=int(os.environ.get("FUZZ_EXAMPLES", "0")),
        help="how many random requests each operation of the API is tried with (0: a fixed few)",
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
