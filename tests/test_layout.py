"""The project's shape: what may import what, and what stands at the top."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BELOW = {"sandbox": {"sandbox"}, "data": {"sandbox", "data"}, "api": {"sandbox", "data", "api"}}
OURS = {"sandbox", "data", "api", "tests", "examples"}
IN_A_NOTEBOOK = {"numpy", "sortedcontainers", "msgspec"}
STRATEGIES_NEED = {"talib", "starlark"}
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
    for module in (ROOT / "sandbox").rglob("*.py"):
        names = imported(module) - {"sandbox"}
        foreign = names - set(sys.stdlib_module_names)
        allowed = IN_A_NOTEBOOK
        if module.parent.name == "strategies":
            allowed = IN_A_NOTEBOOK | STRATEGIES_NEED
        assert foreign <= allowed, f"{module.name} imports {foreign}"
        assert not names & IMPURE, f"{module.name} imports {names & IMPURE}"


@pytest.mark.parametrize("package", BELOW)
def test_data_files_of_a_package_are_installed_with_it(package: str) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    there = {path.name for path in (ROOT / package).iterdir() if path.is_file()}
    data = {name for name in there if not name.endswith(".py")}
    assert data == set(settings["package-data"].get(package, []))


def test_the_exchange_knows_nothing_of_strategies() -> None:
    """Nor needs what they need: TA-Lib and Starlark."""
    for module in (ROOT / "sandbox").glob("*.py"):
        assert "sandbox.strategies" not in module.read_text()
    loaded = "import sys, sandbox; print([n for n in sys.modules if n.split('.')[0] in sys.argv])"
    strange = [*STRATEGIES_NEED, "duckdb", "starlette", "scipy", "pandas"]
    command = [sys.executable, "-c", loaded, *strange]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("engine", ["backtrader", "vectorbt"])
def test_an_engine_is_loaded_by_the_run_that_asks_for_it(engine: str) -> None:
    """Both are optional, and the one takes seconds."""
    users = [path.stem for path in (ROOT / "api").rglob("*.py") if engine in imported(path)]
    assert users == [f"engine_{engine}"]
    loaded = "import sys, api.engines, api.app; print(sys.argv[1] in sys.modules)"
    command = [sys.executable, "-c", loaded, engine]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "False"


def test_top_level_is_as_agreed() -> None:
    agreed = {"pyproject.toml", "README.md", "Makefile"} | OURS
    found = {path.name for path in ROOT.iterdir()}
    strange = {name for name in found - agreed if not name.startswith((".", "candlestep.egg"))}
    assert not strange
