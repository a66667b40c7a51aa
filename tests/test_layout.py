"""The project's shape: which package may import which, and what stands where."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.project import ROOT

SANDBOX_BASE = ("sandbox.errors", "sandbox.money", "sandbox.clock", "sandbox.html_tables")
MARKET = ("sandbox.market", *SANDBOX_BASE)
EXCHANGE = ("sandbox.exchange", *MARKET)
STEPPING = ("sandbox.step", "sandbox.until", "sandbox.turn")
SESSION = ("sandbox.session", *STEPPING, "sandbox.performance", "sandbox.config", *EXCHANGE)
STRATEGIES = ("sandbox", "sandbox.strategies", "sandbox.indicators", *SESSION)

DATA_BASE = ("data.store", "data.symbols", "data.clock", "data.given_files", "data.errors")
RECORDS = ("data.records", "data.imports", *DATA_BASE)

API_BASE = ("api.schemas", "api.errors")
HOSTING = ("api.threads", "api.settings", *API_BASE)
SERVING = ("api.admin", "api.services", "api.sessions", "api.jobs", "api.http", *API_BASE)

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "sandbox.errors": (),
    "sandbox.money": ("sandbox.errors",),
    "sandbox.clock": ("sandbox.errors", "sandbox.money"),
    "sandbox.html_tables": ("sandbox.errors", "sandbox.money", "sandbox.clock"),
    "sandbox.market": SANDBOX_BASE,
    "sandbox.indicators": MARKET,
    "sandbox.exchange": MARKET,
    "sandbox.config": EXCHANGE,
    "sandbox.performance": ("sandbox.config", *EXCHANGE),
    "sandbox.step": EXCHANGE,
    "sandbox.until": MARKET,
    "sandbox.turn": ("sandbox.errors",),
    "sandbox.session": ("sandbox.performance", "sandbox.config", *STEPPING, *EXCHANGE),
    "sandbox.strategies": ("sandbox", "sandbox.indicators", *SESSION),
    "sandbox.engines": STRATEGIES,
    "sandbox.envs": ("sandbox", "sandbox.indicators", *SESSION),
    "sandbox": SESSION,
    "data": ("data.market",),
    "data.errors": (),
    "data.clock": ("data.errors",),
    "data.given_files": ("data.errors",),
    "data.symbols": ("data.errors",),
    "data.processes": (),
    "data.store": ("data.symbols", "data.clock", "data.errors"),
    "data.imports": ("data.records", "data.processes", *DATA_BASE),
    "data.records": DATA_BASE,
    "data.journal": DATA_BASE,
    "data.market": RECORDS,
    "data.run_files": RECORDS,
    "data.backups": ("data.journal", "data.run_files", *RECORDS),
    "api.errors": (),
    "api.settings": ("api.errors",),
    "api.threads": ("api.errors",),
    "api.schemas": ("api.errors",),
    "api.http": API_BASE,
    "api.sessions": HOSTING,
    "api.jobs": ("api.threads", *API_BASE),
    "api.replay": ("api.sessions", "api.settings", *API_BASE),
    "api.client": ("api.errors",),
    "api.views": API_BASE,
    "api.services": (
        "api.admin",
        "api.dialects",
        "api.sessions",
        "api.jobs",
        "api.http",
        "api.settings",
        "api.threads",
    ),
    "api.admin": (
        "api.replay",
        "api.sessions",
        "api.views",
        "api.http",
        "api.settings",
        "api.threads",
        "api.errors",
    ),
    "api.dialects": ("api.services", "api.sessions", "api.http", "api.threads", *API_BASE),
    "api.dialects.driver": (),
    "api.routes": ("api.threads", "api.views", "api.dialects", *SERVING),
    "api.mcp": ("api.settings", *SERVING),
    "api.server": ("api.routes", "api.mcp", "api.settings", *SERVING),
    "api.evaluation": ("api.views", "api.errors"),
    "api.cli": (
        "api.dialects",
        "api.evaluation",
        "api.server",
        "api.admin",
        "api.replay",
        "api.views",
        "api.settings",
        "api.errors",
    ),
    "api": ("api.cli",),
}
"""Each package, and those of its own top-level package that it may import.

`api` may import all of `data` and `sandbox`, `data` all of `sandbox`.
"""

BELOW = {"sandbox": (), "data": ("sandbox",), "api": ("data", "sandbox")}
NOTEBOOK = {"numpy", "sortedcontainers", "msgspec"}
THIRD_PARTIES: dict[str, set[str]] = {
    "sandbox": NOTEBOOK,
    "sandbox.market.frames": NOTEBOOK | {"narwhals", "pandas"},
    "sandbox.performance.charts": NOTEBOOK | {"plotly"},
    "sandbox.indicators": NOTEBOOK | {"talib"},
    "sandbox.strategies": NOTEBOOK | {"starlark"},
    "sandbox.envs": NOTEBOOK | {"gymnasium"},
    "sandbox.envs.sb3": NOTEBOOK | {"gymnasium", "stable_baselines3"},
    "sandbox.envs.puffer": NOTEBOOK | {"gymnasium", "pufferlib"},
    "sandbox.engines": NOTEBOOK | {"backtrader", "vectorbt", "pandas"},
    "data": {"duckdb", "numpy", "msgspec", "structlog"},
    "data.imports": {"duckdb", "numpy", "msgspec", "structlog", "httpx", "pyarrow"},
    "api": {"msgspec", "structlog", "numpy"},
    "api.client": {"msgspec"},
    "api.jobs": {"msgspec", "structlog", "numpy", "ray"},
    "api.cli": {"click", "msgspec", "rich"},
    "api.dialects": {"msgspec", "numpy"},
    "api.dialects.driver": {"time_machine", "candlestep_clock", "candlestep_control"},
    "api.http": {"jwt", "msgspec", "prometheus_client", "structlog"},
    "api.routes": {"msgspec", "numpy", "structlog", "swagger_ui_bundle"},
    "api.views": {"msgspec", "numpy", "jinja2", "markupsafe"},
    "api.server": {"msgspec", "structlog", "starlette", "uvicorn", "uvloop", "h11", "httptools"},
    "api.replay": {"msgspec", "numpy", "httpx"},
    "api.evaluation": {"msgspec", "httpx", "markupsafe"},
    "api.evaluation.tool_agent": {"mcp", "mcp_types"},
    "api.admin": {"msgspec", "httpx", "structlog"},
    "api.mcp": {"msgspec", "numpy", "structlog", "starlette"},
    "api.mcp.server": {"msgspec", "structlog", "mcp", "mcp_types"},
}
"""The libraries that each package may import; one without an entry has those of its parent."""

IMPURE = {"time", "random", "secrets", "uuid", "os", "io", "socket", "threading", "asyncio"}
MOST_MODULES = 16
MOST_LINES = 500


class Module:
    """A module of the three packages: its name without ``candlestep.`` and what it imports."""

    def __init__(self, path: Path) -> None:
        self.path = path
        parts = path.relative_to(ROOT).with_suffix("").parts
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.imports = set(_imported(path))
        self.ours = {name.removeprefix("candlestep.") for name in self.imports if _is_ours(name)}

    @property
    def foreign(self) -> set[str]:
        tops = {name.partition(".")[0] for name in self.imports}
        return tops - {"candlestep"} - set(sys.stdlib_module_names)


def _is_ours(name: str) -> bool:
    return name.startswith("candlestep.")


def _imported(path: Path) -> Iterator[str]:
    """Yield the full name of everything that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if _is_ours(full) and _file(full) else str(node.module)


def _file(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def modules() -> tuple[Module, ...]:
    return tuple(Module(path) for top in BELOW for path in sorted((ROOT / top).rglob("*.py")))


def package_of(name: str, packages: Collection[str]) -> str:
    """Return the entry of a table that is nearest above a module."""
    above = (package for package in packages if f"{name}.".startswith(f"{package}."))
    return max(above, key=len)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_the_table_allows(package: str) -> None:
    top = package.partition(".")[0]
    allowed = {package, *MAY_IMPORT[package]}
    for module in modules():
        if package_of(module.name, MAY_IMPORT) != package:
            continue
        for name in module.ours:
            if name.partition(".")[0] in BELOW[top]:
                continue
            target = package_of(name, MAY_IMPORT)
            assert target in allowed, f"{module.name} imports {name}"


def test_sub_packages_of_routes_import_no_sibling() -> None:
    for module in modules():
        parts = module.name.split(".")
        if parts[:2] != ["api", "routes"] or len(parts) < 4:
            continue
        siblings = {name for name in module.ours if name.startswith("api.routes")}
        own = ".".join(parts[:3])
        assert all(name.startswith(own) for name in siblings), f"{module.name}: {siblings}"


def test_no_import_goes_in_a_circle() -> None:
    graph = {module.name: module.ours for module in modules()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path[path.index(name) :], name))
        if name not in done:
            for target in sorted(graph.get(name, ())):
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_each_package_imports_only_its_libraries() -> None:
    for module in modules():
        allowed = THIRD_PARTIES[package_of(module.name, THIRD_PARTIES)]
        assert module.foreign <= allowed, f"{module.name} imports {module.foreign - allowed}"


def test_the_sandbox_touches_nothing_outside() -> None:
    for module in modules():
        if module.name.startswith("sandbox"):
            assert not module.imports & IMPURE, f"{module.name} imports {module.imports & IMPURE}"


def test_the_three_packages_are_imported_by_their_full_names() -> None:
    """``import sandbox`` works from the root of a checkout, as a second copy of everything."""
    for top in (*BELOW, "tests", "examples"):
        for path in sorted((ROOT / top).rglob("*.py")):
            tops = {name.partition(".")[0] for name in _imported(path)}
            assert not tops & set(BELOW), f"{path.relative_to(ROOT)} imports {tops & set(BELOW)}"


def test_folders_and_modules_stay_small() -> None:
    for top in BELOW:
        for folder in [ROOT / top, *(path for path in (ROOT / top).rglob("*") if path.is_dir())]:
            count = len(list(folder.glob("*.py")))
            assert count <= MOST_MODULES, f"{folder.relative_to(ROOT)} has {count} modules"
    for module in modules():
        lines = len(module.path.read_text().splitlines())
        assert lines <= MOST_LINES, f"{module.name} has {lines} lines"


def test_data_files_are_installed_with_their_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    installed = {
        (package, name) for package, names in settings["package-data"].items() for name in names
    }
    present = {
        ("candlestep." + ".".join(path.relative_to(ROOT).parent.parts), path.name)
        for top in BELOW
        for path in (ROOT / top).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc", ".md"}
    }
    # The rules of the simulation, which a tool reads.
    present.add(("candlestep.sandbox", "README.md"))
    assert present == installed


def test_the_exchange_needs_three_libraries() -> None:
    """Neither TA-Lib nor Starlark, which strategies need, nor anything of the server."""
    loaded = (
        "import sys, candlestep.sandbox;"
        " print([n for n in sys.modules if n.split('.')[0] in sys.argv])"
    )
    strange = ["talib", "starlark", "duckdb", "starlette", "scipy", "pandas", "plotly"]
    command = [sys.executable, "-c", loaded, *strange]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("engine", ["backtrader", "vectorbt"])
def test_an_engine_is_loaded_by_the_run_that_asks_for_it(engine: str) -> None:
    """Both are optional, and vectorbt takes seconds to import."""
    users = [module.name for module in modules() if engine in module.foreign]
    assert users == [f"sandbox.engines.{engine}_engine"]
    loaded = (
        "import sys, candlestep.sandbox.engines, candlestep.api.server.app;"
        " print(sys.argv[1] in sys.modules)"
    )
    command = [sys.executable, "-c", loaded, engine]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize(
    "program", ["api.server.process", "api.jobs.worker", "data.imports.process.reading"]
)
def test_what_takes_long_to_load_is_loaded_by_what_needs_it(program: str) -> None:
    """The programs of the server start often; TA-Lib loads pandas and polars, a second of work."""
    loaded = (
        f"import sys, candlestep.{program}; print([n for n in sys.argv[1:] if n in sys.modules])"
    )
    slow = ["pandas", "polars", "pyarrow", "scipy", "talib", "vectorbt", "ray", "mcp"]
    command = [sys.executable, "-c", loaded, *slow]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_top_level_is_as_agreed() -> None:
    agreed = {"pyproject.toml", "README.md", "Makefile", "tests", "examples", *BELOW}
    found = {path.name for path in ROOT.iterdir()}
    strange = {name for name in found - agreed if not name.startswith(".")}
    assert not strange
