"""The READMEs are right: their code runs as pasted, their commands and links exist."""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from candlestep.api.settings import DESCRIPTIONS, variable_name
from candlestep.sandbox.strategies import TEMPLATES, compile_strategy
from tests.support.api_client import sample_home
from tests.support.command_line import ENVIRONMENT, candlestep
from tests.support.project import ROOT
from tests.support.readmes import BLOCK, TRAINERS
from tests.support.server_process import RunningServer, running

ADDRESS = "http://127.0.0.1:8000"
MOST_LINES = 150
"""The most lines of the main README."""
FOLDERS = ("sandbox", "data", "api", "tests")
READMES = [
    ROOT / "README.md",
    *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("README.md"))),
    ROOT / "api" / "OPERATIONS.md",
    *TRAINERS,
]
NAMES = [str(path.relative_to(ROOT)) for path in READMES]

CODE_SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
FLAG = re.compile(r"--[a-z][a-z-]*")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of code, and where it stands."""

    readme: str
    language: str
    text: str


def blocks_in(*languages: str) -> list[Block]:
    """Return the blocks of all READMEs that are in one of some languages."""
    return [
        Block(name, language, text)
        for name, path in zip(NAMES, READMES, strict=True)
        for language, text in BLOCK.findall(path.read_text())
        if language in languages
    ]


PYTHON_BLOCKS = blocks_in("python")
PYTHON_IDS = [
    f"{block.readme}-line-{(ROOT / block.readme).read_text().split(block.text)[0].count(chr(10))}"
    for block in PYTHON_BLOCKS
]


@pytest.fixture(scope="module")
def sample_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(sample_home(tmp_path_factory.mktemp("readmes") / "home")) as server:
        yield server


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=id)
        for block, id in zip(PYTHON_BLOCKS, PYTHON_IDS, strict=True)
        if ROOT / block.readme not in TRAINERS
    ],
)
def test_a_python_block_runs_as_pasted(
    block: Block, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    text = block.text
    if ADDRESS in text:
        server: RunningServer = request.getfixturevalue("sample_server")
        text = text.replace(ADDRESS, server.url)
    script = tmp_path / "pasted.py"
    script.write_text(text)
    command = [sys.executable, str(script)]
    process = subprocess.run(
        command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=PYTHON_IDS)
def test_a_python_block_uses_the_names_that_are_installed(block: Block) -> None:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            modules.add(str(node.module))
    assert not {name.partition(".")[0] for name in modules} & set(FOLDERS)


def test_scripts_of_trainers_import_from_candlestep_what_there_is() -> None:
    pages = [block for block in PYTHON_BLOCKS if ROOT / block.readme in TRAINERS]
    assert len(pages) == len(TRAINERS) == 3
    nodes = [node for block in pages for node in ast.walk(ast.parse(block.text))]
    for node in nodes:
        if not isinstance(node, ast.ImportFrom):
            continue
        name = str(node.module)
        # The adapter needs the library that it adapts to.
        if name.startswith("candlestep.") and not name.endswith(".sb3"):
            module = importlib.import_module(name)
            assert all(hasattr(module, alias.name) for alias in node.names), name


def test_what_the_server_prints_is_as_the_readme_shows(sample_server: RunningServer) -> None:
    (greeting,) = (
        line
        for block in blocks_in("text")
        for line in block.text.splitlines()
        if line.startswith("Candlestep serves")
    )
    assert sample_server.greeting == greeting.replace(ADDRESS, sample_server.url)


def test_cards_and_programs_compile_and_all_templates_are_named() -> None:
    (card,) = blocks_in("json")
    assert compile_strategy(json.loads(card.text)).kind == "card"
    (program,) = blocks_in("starlark")
    assert compile_strategy({"source": program.text}).kind == "source"
    text = (ROOT / program.readme).read_text()
    assert set(re.findall(r"`(tpl_\w+)`", text)) == set(TEMPLATES)


def test_the_recording_written_by_hand_is_recorded_and_replayed(tmp_path: Path) -> None:
    (recording,) = blocks_in("jsonl")
    path = tmp_path / "by-hand.jsonl"
    path.write_text(recording.text)
    home = sample_home(tmp_path / "home")
    assert candlestep("replay", "--record", path, "--home", home).code == 0
    replayed = candlestep("replay", path, "--home", home)
    assert replayed.code == 0, replayed.out + replayed.err


def commands(path: Path) -> Iterator[str]:
    """Yield each ``candlestep`` command of a README, from its blocks and from its sentences."""
    text = path.read_text()
    for language, block in BLOCK.findall(text):
        if language == "":
            for line in block.splitlines():
                yield from (part.strip() for part in line.partition("#")[0].split("&&"))
    yield from CODE_SPAN.findall(BLOCK.sub("", text))


@cache
def help_of(*words: str) -> str:
    """Return the help text of a command, which must exist."""
    shown = candlestep(*words, "--help")
    assert shown.code == 0, f"candlestep {' '.join(words)}: {shown.err}"
    return shown.out


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_their_flags_exist(name: str) -> None:
    for command in commands(ROOT / name):
        program, *words = re.sub(r"[\[\]]", "", command).split() or [""]
        if program == "candlestep":
            flags = [index for index, word in enumerate(words) if word.startswith("-")]
            known = help_of(*words[: min(flags, default=len(words))])
        elif program == "serve":
            known = help_of("serve")
        else:
            continue
        unknown = set(FLAG.findall(command)) - set(FLAG.findall(known))
        assert not unknown, f"`{command}` has no {', '.join(sorted(unknown))}"


def test_flags_named_alone_are_those_of_a_command_or_an_example() -> None:
    texts = [help_of("serve"), help_of("replay"), help_of("data", "import")]
    texts += [help_of("data", "remove"), help_of("data", "instrument"), help_of("keys", "create")]
    texts += [help_of("data", "prune"), help_of("drive")]
    texts.append((ROOT / "examples" / "agent_loop.py").read_text())
    known = {flag for text in texts for flag in FLAG.findall(text)}
    for path in READMES:
        for span in CODE_SPAN.findall(path.read_text()):
            if span.startswith("--"):
                assert set(FLAG.findall(span)) <= known, f"{path}: {span}"


def test_the_table_of_settings_is_complete() -> None:
    text = (ROOT / "api" / "README.md").read_text().partition("## Settings")[2]
    rows = re.findall(r"^\| `(--[a-z-]+)`", text, re.MULTILINE)
    assert sorted([*rows, "--help"]) == sorted(set(FLAG.findall(help_of("serve"))))


def test_every_metric_is_explained(sample_server: RunningServer) -> None:
    with sample_server.client() as client:
        families = re.findall(r"^# TYPE (\w+) \w+$", client.get("/metrics").text, re.MULTILINE)
    text = (ROOT / "api" / "OPERATIONS.md").read_text()
    explained = re.findall(r"^\| `(candlestep_\w+)`", text, re.MULTILINE)
    assert sorted(explained) == sorted({name for name in families if not name.endswith("_created")})


def test_deployments_set_what_can_be_set() -> None:
    known = {variable_name(setting) for setting in DESCRIPTIONS}
    for path in (ROOT / "examples" / "deployment").iterdir():
        assert set(re.findall(r"CANDLESTEP_\w+", path.read_text())) <= known, path.name


def test_the_user_of_the_image_can_read_the_first_key() -> None:
    """Compose copies a key of the environment in, as root's, but not into a read-only container."""
    deployment = ROOT / "examples" / "deployment"
    [user] = re.findall(r"--uid (\d+)", (deployment / "Dockerfile").read_text())
    compose = (deployment / "compose.yaml").read_text()
    assert f'{{source: first_key, uid: "{user}", mode: 0400}}' in compose
    assert "read_only" not in compose


@pytest.mark.parametrize("name", NAMES)
def test_make_targets_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / name).read_text()
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    assert named <= targets


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a file."""
    headings = HEADING.findall(BLOCK.sub("", path.read_text()))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    readme = ROOT / name
    for link in LINK.findall(readme.read_text()):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (readme.parent / file).resolve() if file else readme
        assert target.exists(), link
        assert ROOT in (target, *target.parents), link
        assert not anchor or anchor in anchors(target), link


def test_the_main_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_LINES
