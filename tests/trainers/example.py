"""The example that trains with PPO, for a few seconds, and the replay of its best episode.

Run by ``make rl-check``.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.project import ROOT

SECONDS = "8"


def main() -> None:
    """Train on the sample market, and replay what was saved."""
    with tempfile.TemporaryDirectory() as folder:
        candlestep = [sys.executable, "-m", "candlestep.api"]
        home = str(Path(folder) / "home")
        subprocess.run([*candlestep, "data", "sample", "--home", home], check=True, cwd=folder)
        script = str(ROOT / "examples" / "train_ppo.py")
        example = [sys.executable, script, home, "BTCUSDT", SECONDS]
        subprocess.run(example, check=True, cwd=folder)
        replay = [*candlestep, "replay", "best_episode.jsonl", "--home", home]
        subprocess.run(replay, check=True, cwd=folder)


if __name__ == "__main__":
    main()
