"""A home is its owner's alone, whatever the umask; nobody else's directory is changed."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from candlestep.data.errors import StorageUnavailable
from candlestep.data.store.database import FILE_NAME, Store
from candlestep.data.store.home import is_open_to_others, private_files


def modes(home: Path) -> dict[str, int]:
    """Return the permissions of a directory and of all in it, by name."""
    return {
        str(path.relative_to(home)): stat.S_IMODE(path.lstat().st_mode)
        for path in (home, *home.rglob("*"))
    }


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_a_new_home_and_its_store_are_private_under_every_umask(tmp_path: Path, mask: int) -> None:
    home = tmp_path / "new" / "home"
    with umask(mask):
        with private_files():
            Store.open(home).close()
        assert os.umask(mask) == mask, "the caller's umask is as it was"
    assert modes(home) == {".": 0o700, FILE_NAME: 0o600}


def test_an_older_home_is_narrowed_and_the_users_files_in_it_are_not(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Store.open(home).close()
    for name in ("journals/bt_1.jsonl", "results/job/0/equity.parquet", "server.json", "notes/a"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    for path in (home, *home.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (tmp_path / "elsewhere").touch(0o644)
    (home / "journals/link").symlink_to(tmp_path / "elsewhere")
    assert is_open_to_others(home)
    Store.open(home).close()
    assert not is_open_to_others(home)
    narrowed = modes(home)
    assert narrowed.pop("notes") == 0o755
    assert narrowed.pop("notes/a") == 0o644
    narrowed.pop("journals/link")
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) & 0o044 == 0o044
    assert {mode & 0o077 for mode in narrowed.values()} == {0}


def test_a_directory_of_others_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "main.py").touch()
    folder.chmod(0o755)
    before = modes(folder)
    with pytest.raises(StorageUnavailable, match="name a directory of its own with --home"):
        Store.open(folder)
    assert modes(folder) == before
    folder.chmod(0o700)
    Store.open(folder).close()
    (tmp_path / "empty").mkdir(mode=0o755)
    Store.open(tmp_path / "empty").close()
    assert modes(tmp_path / "empty")["."] == 0o700
