"""Take the picture of a session's page for the README: ``make screenshot``.

An agent steps through the sample market on a server of its own; the picture is of the page of its
session, from the title to the end of the chart.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.api_client import Api, sample_home
from tests.support.browser import chromium
from tests.support.command_line import ENVIRONMENT
from tests.support.project import ROOT
from tests.support.server_process import running

PICTURE = ROOT / "examples" / "session.png"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running(sample_home(Path(folder))) as server:
        agent = [sys.executable, str(ROOT / "examples" / "agent_loop.py"), "--url", server.url]
        subprocess.run(agent, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
        with server.client() as client:
            session = Api(client).get("/api/v1/backtest/list")["backtests"][0]["session_id"]
        with (
            chromium() as browser,
            browser.new_page(viewport={"width": 1180, "height": 1040}) as page,
        ):
            page.goto(f"{server.url}/sessions/{session}")
            page.wait_for_selector("[data-figure].drawn")
            page.screenshot(path=PICTURE)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
