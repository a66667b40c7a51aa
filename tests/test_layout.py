"""The project's shape: what may import what, and what stands at the top."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BELOW = {"sandbox": {"sandbox"}, "data": {"sandbox", "data"}, "api": {"sandbox", "data", "api"}}
OURS = {"sandbox", "data", "api", "tests", "examples"}
IN_A_NOTEBOOK = {"numpy", "sortedcontainers", "msgspec"}
IMPURE = {"time", "random", "secrets", "uuid", "os", "io", "socket", "threading", "asyncio"}


def imported(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", BELOW)
def test_imports_point_one_way(package: str) -> None:
    for module in (ROOT / package).rglob("*.py"):
        upward = imported(module) & OURS - BELOW[package]
        assert not upward, f"{module.relative_to(ROOT)} imports {upward}"


def test_sandbox_needs_three_libraries_and_touches_nothing_outside() -> None:
    import sys

    for module in (ROOT / "sandbox").rglob("*.py"):
        names = imported(module) - {"sandbox"}
        foreign = names - set(sys.stdlib_module_names)
        assert foreign <= IN_A_NOTEBOOK, f"{module.name} imports {foreign}"
        assert not names & IMPURE, f"{module.name} imports {names & IMPURE}"


def test_top_level_is_as_agreed() -> None:
    agreed = {"pyproject.toml", "README.md", "Makefile"} | OURS
    found = {path.name for path in ROOT.iterdir()}
    strange = {name for name in found - agreed if not name.startswith((".", "candlestep.egg"))}
    assert not strange
