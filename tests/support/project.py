"""Paths of the project and of the reference material next to it."""

from pathlib import Path

ROOT = next(
    folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file()
)
"""The project's root directory."""

SHARED = ROOT.parent / "shared"
"""Reference documents and real candles; absent in a plain clone of the repository."""
