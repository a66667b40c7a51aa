"""Run each client against a server, and keep what it sent: ``python -m tests.clients.check``."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from candlestep.api.dialects.binance.clients import Client, snippet
from tests.clients.recorder import Recorder
from tests.support.api_client import Api, sample_home
from tests.support.binance import Binance
from tests.support.project import ROOT
from tests.support.server_process import RunningServer, running

FIXTURE = ROOT / "tests" / "fixtures" / "clients.json"
PYTHON = ROOT / ".ci" / "clients" / "bin" / "python"
SCRIPTS: dict[Client, str] = {
    "ccxt": "ccxt_requests.py",
    "python-binance": "python_binance_requests.py",
    "binance-sdk-spot": "binance_sdk_requests.py",
}


def check(server: RunningServer, client: Client) -> dict[str, Any] | None:
    """Run a client's script in a new session; return what it sent, or None if it failed."""
    with server.client() as http:
        api = Api(http)
        binance = Binance(api, api.started("01-20", "01-25"))
    recorder = Recorder(server.url)
    base = recorder.url + urlsplit(binance.opened["base_url"]).path
    keys = binance.opened["api_key"], binance.opened["api_secret"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bot_client.py").write_text(snippet(client, base, *keys))
        run = subprocess.run(
            [str(PYTHON), str(Path(__file__).parent / SCRIPTS[client])],
            env=os.environ | {"PYTHONPATH": folder, "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
        )
    recorder.close()
    failed = [request for request in recorder.requests if request["status"] >= 400]
    print(f"{client}: {len(recorder.requests)} requests, {len(failed)} refused, ", end="")
    if run.returncode:
        print(f"FAILED\n{run.stderr[-1500:]}")
        for request in recorder.requests[-2:]:
            print(json.dumps(request)[:1500])
        return None
    version = run.stdout.split()[-1]
    print(f"version {version}: as expected")
    return {
        "version": version,
        "api_secret": keys[1],
        "requests": [
            {name: value for name, value in request.items() if name != "answer"}
            for request in recorder.requests
        ],
    }


def main() -> int:
    """Check every client, and keep what they sent if all went well."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, running(sample_home(Path(folder))) as server:
        for client in SCRIPTS:
            sent = check(server, client)
            if sent is not None:
                found[client] = sent
    if len(found) < len(SCRIPTS):
        return 1
    FIXTURE.write_text(json.dumps(found, indent=1) + "\n")
    print(f"kept in {FIXTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
