"""The installed packages, among a user's own files that have the same names."""

import csv
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from sysconfig import get_path

import pytest

from candlestep import __version__
from tests.support.api_client import Api, finished, sample_home
from tests.support.project import ROOT
from tests.support.server_process import running

PACKAGES = ("sandbox", "data", "api")
TRACE = 'raise SystemExit(open("imported", "a").write(__file__ + "\\n") and "a user\'s file ran")\n'
"""The text of a user's module: it leaves a file behind, and stops whoever imports it."""
JOB = {
    "template_id": "tpl_breakout",
    "params": {"lookback": 20},
    "symbols": ["BTCUSDT"],
    "timeframe": "1h",
    "start": "2025-01-05T00:00:00Z",
    "end": "2025-01-12T00:00:00Z",
    "capital": "10000",
}


def run(*command: object, cwd: Path | None = None) -> str:
    """Return what a command prints; it must succeed."""
    process = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, f"{command}: {process.stdout}{process.stderr}"
    return process.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built from a copy: building writes next to the sources."""
    copy = tmp_path_factory.mktemp("sources")
    for name in (".src", *PACKAGES):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    build = "import setuptools.build_meta as backend; backend.build_sdist('dist')"
    run(sys.executable, "-c", build, cwd=copy)
    (archive,) = (copy / "dist").iterdir()
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel, built from the source distribution as an index would hold it."""
    offline = ("--no-build-isolation", "--no-deps", "--no-index", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", *offline, "-w", sdist.parent, sdist)
    (path,) = sdist.parent.glob("*.whl")
    return path


class Environment:
    """A virtual environment with only the wheel in it; it borrows the libraries of this one."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        venv.create(folder, symlinks=True)
        self.site_packages = Path(get_path("purelib", vars={"base": str(folder)}))
        libraries = {
            sysconfig_path for sysconfig_path in sys.path if "site-packages" in sysconfig_path
        }
        (self.site_packages / "libraries.pth").write_text("\n".join(sorted(libraries)))
        self.pip("install", "--no-compile", "--no-deps", "--no-index", wheel)

    def pip(self, *arguments: object) -> None:
        run(sys.executable, "-m", "pip", "--quiet", "--python", self.python, *arguments)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    return Environment(tmp_path_factory.mktemp("environment"), wheel)


@pytest.fixture(params=["wheel", "editable"])
def python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of an environment in which Candlestep is installed."""
    if request.param == "editable":
        return Path(sys.executable)
    python: Path = request.getfixturevalue("environment").python
    return python


@pytest.fixture
def notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder, current and on the import path, with modules and folders of our names."""
    folder = tmp_path / "notebooks"
    (folder / "api").mkdir(parents=True)
    (folder / "sandbox").mkdir()
    (folder / "candlestep").mkdir()
    (folder / "data.py").write_text(TRACE)
    (folder / "api" / "__init__.py").write_text(TRACE)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", ".")
    yield folder
    assert not (folder / "imported").exists(), (folder / "imported").read_text()


def test_the_users_files_can_be_imported(notebooks: Path) -> None:
    """The tests of this module would see it if one of them was imported."""
    for name in ("data", "api"):
        process = subprocess.run([sys.executable, "-c", f"import {name}"], check=False)
        assert process.returncode != 0
    trace = notebooks / "imported"
    assert len(trace.read_text().splitlines()) == 2
    trace.unlink()


def test_the_import_and_the_command_are_ours(python: Path, notebooks: Path) -> None:
    files = (
        "print(*(sys.modules[f'candlestep.{name}'].__file__ for name in sys.argv[1:]), sep='\\n')"
    )
    imports = "import sys, candlestep.sandbox, candlestep.data, candlestep.api"
    modules = run(python, "-c", f"{imports}; {files}", *PACKAGES).splitlines()
    for name, module in zip(PACKAGES, modules, strict=True):
        assert module.endswith(f"/candlestep/{name}/__init__.py")
        assert notebooks not in Path(module).parents
    assert run(python.with_name("candlestep"), "--version").split()[-1] == __version__
    assert run(python, "-m", "candlestep.api", "--version").split()[-1] == __version__


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_a_job_runs_in_a_process_of_its_own(
    python: Path, notebooks: Path, tmp_path: Path, executor: str
) -> None:
    if executor == "ray" and find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'candlestep[ray]'")
    home = sample_home(tmp_path / "home")
    flags = ("--executor", executor, "--workers", "1")
    with (
        running(home, *flags, command=(str(python), "-m", "candlestep.api")) as server,
        server.client() as client,
    ):
        api = Api(client)
        job = finished(api, api.post("/api/v1/backtest/jobs", JOB)["id"])
    assert job["error"] is None
    assert job["result"]["metrics"]["total_trades"] > 0


def test_distributions_hold_every_file_of_the_packages(sdist: Path, wheel: Path) -> None:
    files = {
        f"candlestep/{path.relative_to(ROOT)}"
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {f"candlestep/{name}/py.typed" for name in PACKAGES} <= files
    assert "candlestep/data/market/fee_schedules.json" in files
    code_and_data = {"candlestep/__init__.py"} | {
        name for name in files if not name.endswith(".md")
    }
    with zipfile.ZipFile(wheel) as archive:
        installed = {name for name in archive.namelist() if ".dist-info/" not in name}
    with tarfile.open(sdist) as archive:
        source = {name.partition("/.src/")[2] for name in archive.getnames() if "/.src/" in name}
    assert installed - files == {"candlestep/__init__.py"}
    assert code_and_data <= installed
    assert code_and_data <= source


def test_uninstalling_leaves_the_files_of_others(tmp_path: Path, wheel: Path) -> None:
    environment = Environment(tmp_path, wheel)
    others = [environment.site_packages / name / "__init__.py" for name in PACKAGES]
    for other in others:
        other.parent.mkdir()
        other.write_text("")
    (record,) = environment.site_packages.glob("candlestep-*.dist-info/RECORD")
    with record.open() as rows:
        names = {Path(row[0]).parts[0] for row in csv.reader(rows)}
    assert names == {"..", "candlestep", record.parent.name}, "'..' leads to bin/candlestep"
    environment.pip("uninstall", "--yes", "candlestep")
    assert all(other.is_file() for other in others)
    assert not list(environment.site_packages.glob("candlestep*"))
    assert not (environment.bin / "candlestep").exists()
