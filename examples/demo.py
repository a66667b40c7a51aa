"""Go from candles to a picture: import, serve, run an agent, look. ``make demo`` runs this.

    python examples/demo.py [FILE ...]

Imports the files, by default the sample market, into a new home in the temporary directory, starts a
server on the home, and runs ``agent_loop.py`` against the server. The last line is the address of
the page of its session, and the server runs until Ctrl-C. Where there is no terminal, the server
stops and the page becomes a file in the home. The home stays.
"""

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx

AGENT = Path(__file__).with_name("agent_loop.py")
CANDLESTEP = [sys.executable, "-m", "candlestep.api"]


def main() -> int:
    home = Path(tempfile.mkdtemp(prefix="candlestep-demo-"))
    files = sys.argv[1:]
    if files:
        print(f"Importing into {home}\n", flush=True)
        run(["data", "import", *files], home)
    else:
        print(f"Loading the sample market into {home}\n", flush=True)
        run(["data", "sample"], home)

    log = home / "server.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*CANDLESTEP, "serve", "--port", "0", "--home", str(home)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as server,
    ):
        try:
            url = address(server)
            if url is None or httpx.get(f"{url}/health", trust_env=False).is_error:
                print(f"The server did not start:\n{log.read_text()}", file=sys.stderr)
                return 1
            print(f"\nA server runs at {url}, an agent steps through all of its candles.\n")
            sys.stdout.flush()
            agent = [sys.executable, str(AGENT), "--url", url]
            code = subprocess.run(agent, env=without_proxy(), check=False).returncode
            if code:
                return code
            session = latest_session(url)
            if sys.stdout.isatty():
                print(f"\nThe server runs until Ctrl-C, on {home}. Look at the session:")
                print(f"{url}/sessions/{session}", flush=True)
                with suppress(KeyboardInterrupt):
                    server.wait()
        finally:
            server.terminate()
    if sys.stdout.isatty():
        return 0
    port = urlsplit(url).port
    print("\nThe server is stopped. To look around, start it again:")
    print(f"  {Path(sys.executable).parent}/candlestep serve --port {port} --home {home}")
    print(
        f"Its log is {log}; remove {home} when you are done. The page of the session:", flush=True
    )
    run(["plot", session, "--output", str(home / "session.html")], home)
    return 0


def latest_session(url: str) -> str:
    """Return the id of the session that was created last."""
    answer = httpx.get(f"{url}/api/v1/backtest/list", params={"limit": 1}, trust_env=False)
    session_id: str = answer.raise_for_status().json()["backtests"][0]["session_id"]
    return session_id


def run(command: list[str], home: Path) -> None:
    code = subprocess.run([*CANDLESTEP, *command, "--home", str(home)], check=False).returncode
    if code:
        sys.exit(code)


def address(server: "subprocess.Popen[str]") -> str | None:
    """Return the URL of the server, which prints it when it is ready; None if it ends before."""
    assert server.stdout is not None
    for line in server.stdout:
        for word in line.split():
            if word.startswith("http://"):
                return word
    return None


def without_proxy() -> dict[str, str]:
    """Return the environment, without a proxy between the agent and the server on this machine."""
    return os.environ | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


if __name__ == "__main__":
    sys.exit(main())
