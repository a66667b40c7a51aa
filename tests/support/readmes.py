"""The READMEs and the pages beside them, and how to find code in them."""

import re

from tests.support.project import ROOT

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A fenced block: its language and its text."""

TRAINERS = sorted({*(ROOT / "sandbox/envs").glob("*.md")} - {ROOT / "sandbox/envs/README.md"})
"""The pages on trainers. Their scripts need torch, and are run by ``make rl-check``."""
