"""The home that every queue of jobs is tested on."""

from pathlib import Path

import pytest

from tests.support.api_client import sample_home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return sample_home(tmp_path / "home")
