"""The scripts of the pages on trainers, as a reader pastes them, on the sample market.

Run by ``make rl-check``.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.project import ROOT
from tests.support.readmes import BLOCK, TRAINERS


def main() -> None:
    """Run each script in a folder of its own; raise if one fails."""
    with tempfile.TemporaryDirectory() as folder:
        home = str(Path(folder) / "home")
        environment = {**os.environ, "CANDLESTEP_HOME": home}
        candlestep = [sys.executable, "-m", "candlestep.api"]
        sample = [*candlestep, "data", "sample"]
        subprocess.run(sample, check=True, env=environment, stdout=subprocess.DEVNULL)
        for page in TRAINERS:
            (script,) = (
                text for language, text in BLOCK.findall(page.read_text()) if language == "python"
            )
            print(f"{page.relative_to(ROOT)}:", flush=True)
            subprocess.run([sys.executable, "-c", script], check=True, env=environment, cwd=folder)
        for command in (["replay", "best.jsonl"], ["plot", "best.jsonl", "-o", "best.html"]):
            subprocess.run([*candlestep, *command], check=True, env=environment, cwd=folder)


if __name__ == "__main__":
    main()
