"""``candlestep drive``: run a bot whose time is that of a session."""

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from importlib.resources import files

import click

from candlestep.api.admin.dialects import OpenedDialect, ServedSession, SessionClock
from candlestep.api.cli.dialects.session import served_session, session_options
from candlestep.api.cli.messages import print_note
from candlestep.sandbox import SandboxError

_LOOK_SECONDS = 0.2
_MOST_LOOKS = 50
_ON_PATH = "on_path"


@click.command("drive", context_settings={"ignore_unknown_options": True})
@session_options
@click.option(
    "--grace",
    type=click.FloatRange(0, 600),
    default=5.0,
    metavar="SECONDS",
    help="Time that the bot has to end once the session has (default 5).",
)
@click.argument("session_id", metavar="SESSION")
@click.argument("bot", metavar="-- COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    home: str | None,
    url: str | None,
    key: str | None,
    grace: float,
    session_id: str,
    bot: Sequence[str],
) -> int:
    """Run a bot in Python on the clock of a session.

    Its time and its sleeps are those of the session. It finds the address, the key and the secret of the session in CANDLESTEP_BASE_URL,
    CANDLESTEP_API_KEY and CANDLESTEP_API_SECRET, unless those of `candlestep dialect` are in its
    configuration already. Its environment needs time-machine. Nobody else can step the session
    meanwhile. When the session ends, the bot is ended.

    The exit code is the bot's, or 0 if the session has ended before the bot.
    """
    with closing(served_session(home, url, key, session_id)) as session:
        dialect, holder = session.open("lockstep"), secrets.token_hex(8)
        clock = session.control(dialect, "hold", holder)
        try:
            code = _run(session, dialect, holder, clock, list(bot), grace)
        finally:
            with suppress(SandboxError):
                clock = session.control(dialect, "release", holder)
        _print_outcome(_settled(session, clock))
        return code


def _run(
    session: ServedSession,
    dialect: OpenedDialect,
    holder: str,
    clock: SessionClock,
    bot: list[str],
    grace: float,
) -> int:
    """Run the bot until it or the session has ended, and return its exit code."""
    # Whoever ends this process ends the bot with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    process = subprocess.Popen(
        bot, env=_environment(dialect, holder, clock), start_new_session=True
    )
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(_LOOK_SECONDS)
                if code:
                    print_note(f"the bot ended with code {code}")
                return code
            if session.control(dialect, "hold", holder).status != "running":
                _end(process, grace)
                return 0
    finally:
        if process.poll() is None:
            _end(process, grace)


def _environment(dialect: OpenedDialect, holder: str, clock: SessionClock) -> dict[str, str]:
    folder = str(files("candlestep.api.dialects.driver").joinpath(_ON_PATH))
    others = os.environ.get("PYTHONPATH")
    driver = {
        "base_url": dialect.base_url,
        "api_key": dialect.api_key,
        "api_secret": dialect.api_secret,
        "control_url": dialect.control_url,
        "holder": holder,
        "now": clock.now,
        "first": clock.now - clock.ahead,
        "interval": clock.interval,
    }
    inherited = {name: value for name, value in os.environ.items() if name != "CANDLESTEP_NOW"}
    return (
        {"PYTHONHASHSEED": "0"}
        | inherited
        | {
            "PYTHONPATH": f"{folder}{os.pathsep}{others}" if others else folder,
            "CANDLESTEP_DRIVE": json.dumps(driver),
            "CANDLESTEP_BASE_URL": dialect.base_url,
            "CANDLESTEP_API_KEY": dialect.api_key,
            "CANDLESTEP_API_SECRET": dialect.api_secret,
        }
    )


def _end(process: "subprocess.Popen[bytes]", grace: float) -> None:
    """End a bot and the processes that it has started: ask first, then kill."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
            break
    # What the bot has started may outlive it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _settled(session: ServedSession, clock: SessionClock) -> dict[str, object]:
    """Return the status of the session, once its end is stored if it has ended."""
    for _ in range(_MOST_LOOKS):
        status = session.status()
        if clock.status == "running" or status["status"] != "running":
            break
        time.sleep(_LOOK_SECONDS)
    return status


def _print_outcome(status: dict[str, object]) -> None:
    print(f"session  {status['session_id']}")
    print(f"status   {status['status']}, step {status['current_step']} of {status['total_steps']}")
    for name, label in (
        ("final_equity", "equity"), ("roi_pct", "return"), ("total_trades", "trades"),
    ):  # fmt: skip
        if status.get(name) is not None:
            unit = " %" if name == "roi_pct" else ""
            print(f"{label:<9}{status[name]}{unit}")
