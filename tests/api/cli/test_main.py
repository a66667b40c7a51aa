"""The command as a whole: misuse, help, completion, exit codes, and what it imports."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from candlestep import __version__ as candlestep_version
from candlestep.data.store.database import FILE_NAME as STORE_NAME
from tests.support.command_line import ENVIRONMENT, announced, candlestep, candlestep_process
from tests.support.patience import PATIENCE


def test_a_home_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = candlestep("data", "list", "--home", tmp_path / "file" / "home")
    assert (done.code, done.out) == (1, "")
    assert str(tmp_path / "file" / "home") in done.err
    (tmp_path / STORE_NAME).write_text("this is no store")
    done = candlestep("data", "list", "--home", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "is not a DuckDB file" in done.err
    assert (tmp_path / STORE_NAME).read_text() == "this is no store"


COMMANDS = [
    "serve",
    "sessions",
    "show",
    "plot",
    "dialect",
    "drive",
    "replay",
    "mcp",
    "evaluate",
    "data",
    "keys",
    "backup",
    "restore",
]


def test_the_home_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANDLESTEP_HOME", str(tmp_path / "there"))
    monkeypatch.setenv("CANDLESTEP_PORT", "not needed")
    done = candlestep("data", "list")
    assert "`candlestep data sample`" in done.out
    assert (tmp_path / "there" / STORE_NAME).exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Next: `candlestep data sample` loads"),
        (["data"], "Usage: candlestep data"),
        (["dta"], "candlestep: no such command 'dta'. Did you mean 'data'?"),
        (["data", "imprt"], "candlestep: no such command 'imprt'. Did you mean 'import'?"),
        (["data", "xyz"], "candlestep: no such command 'xyz'.\n"),
        (["data", "import"], "FILE"),
        (["data", "import", "x.csv", "--interval", "2m"], "--interval"),
        (["data", "import", "x.csv", "--intervall", "1m"], "Did you mean"),
        (["data", "import", os.fsdecode(b"\xff.csv")], "not UTF-8"),
        (["data", "export", os.fsdecode(b"\xff.duckdb")], "not UTF-8"),
        (["replay", os.fsdecode(b"\xff.jsonl")], "not UTF-8"),
        (["data", "download", "BTCUSDT"], "--from"),
        (["data", "download", "BTCUSDT", "--from", "2024-13"], "2024-13"),
        (["keys", "create"], "NAME"),
        (["serve", "--port", "x"], "--port: 'x'"),
        (["serve", "--memory-budget", "much"], "--memory-budget: 'much'"),
    ],
)
def test_misuse_is_reported_and_does_nothing(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANDLESTEP_HOME", str(tmp_path / "home"))
    done = candlestep(*arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert not (tmp_path / "home").exists()


def test_an_interrupted_command_ends_quietly(tmp_path: Path) -> None:
    with announced(tmp_path) as listener:
        process = candlestep_process("data", "list", "--home", tmp_path)
        with listener.accept()[0]:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_reader_that_has_enough_ends_a_command_quietly(tmp_path: Path) -> None:
    candlestep("data", "sample", "--home", tmp_path)
    read, written = os.pipe()
    os.close(read)
    process = candlestep_process("data", "list", "--home", tmp_path, stdout=written)
    os.close(written)
    _, err = process.communicate(timeout=PATIENCE)
    assert err == ""


def test_a_usage_error_has_the_style_of_all_errors_and_says_what_to_do() -> None:
    done = candlestep("data", "import")
    assert done.err == (
        "candlestep: missing argument 'FILE...'.\n"
        "\nNext: `candlestep data import --help` shows the usage.\n"
    )


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_every_command(option: str) -> None:
    done = candlestep("data", option)
    assert (done.code, done.err) == (0, "")
    for command in ("import", "list", "sample", "drop-sample", "download", "export", "prune"):
        assert command in done.out


def test_the_summary_of_a_command_is_the_first_line_of_its_help() -> None:
    summaries = candlestep("--help").out.partition("Commands:\n")[2].partition("\n\n")[0]
    lines = [line.split(maxsplit=1) for line in summaries.splitlines()]
    assert [name for name, _ in lines] == COMMANDS
    for name, summary in lines:
        assert candlestep(name, "--help").out.splitlines()[2].strip() == summary


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_what_takes_time_to_load_is_loaded_by_commands_only(arguments: list[str]) -> None:
    script = (
        "import sys; from candlestep.api.cli import main; main(sys.argv[1:]);"
        " print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "click" in loaded
    assert not loaded & {"duckdb", "httpx", "msgspec", "numpy", "rich", "starlette", "uvicorn"}


def test_the_version_is_printed_alone() -> None:
    assert candlestep("--version") == (0, f"{candlestep_version}\n", "")


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("candlestep ", COMMANDS),
        ("candlestep data im", ["import"]),
        ("candlestep data import --sy", ["--symbol"]),
        ("candlestep data import --interval 1", ["1m", "15m", "1h", "12h", "1d", "1w"]),
        ("candlestep serve --memory", ["--memory-budget"]),
    ],
)
def test_bash_completes_commands_options_and_values(words: str, completions: list[str]) -> None:
    """Bash loads the script that the help names, and calls it upon Tab as done here."""
    script = f"""\
        eval "$(_CANDLESTEP_COMPLETE=bash_source candlestep)"
        COMP_WORDS=({words}{"''" if words.endswith(" ") else ""})
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _candlestep_completion candlestep
        echo "${{COMPREPLY[@]}}"
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = ENVIRONMENT | {"PATH": path}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == completions


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_completion_is_printed(shell: str) -> None:
    command = [sys.executable, "-m", "candlestep.api"]
    environment = ENVIRONMENT | {"_CANDLESTEP_COMPLETE": f"{shell}_source"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"_CANDLESTEP_COMPLETE={shell}_complete" in done.stdout
    assert done.stderr == ""
