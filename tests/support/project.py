"""Where the project stands, and what may stand next to it."""

from pathlib import Path

ROOT = next(
    folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file()
)
"""The project's root."""

SHARED = ROOT.parent / "shared"
"""Reference documents and real candles; absent where there is only the repository."""
