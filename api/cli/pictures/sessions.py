"""``candlestep sessions``: the latest sessions of a home."""

from typing import get_args

import click

from candlestep.api.admin.pictures import LIST, ListedSession, ListSessions
from candlestep.api.cli.home import command_on, home_option, run
from candlestep.api.cli.messages import suggest
from candlestep.api.cli.terminal import minute, print_json, print_table
from candlestep.data.records.sessions import SessionStatus
from candlestep.sandbox import interval_name

_NUMBERS = ("progress", "ROI, %", "Sharpe", "drawdown, %", "trades")


@click.command("sessions")
@home_option
@click.option(
    "--status", type=click.Choice(get_args(SessionStatus)), help="Only those of a status."
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many to list."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(home: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """List the latest sessions of all accounts, the newest first."""
    found = run(LIST, home, ListSessions(status, limit))
    if as_json:
        print_json(found.sessions)
    elif found.sessions:
        header = ("session", "label", "status", "pairs", "span", *_NUMBERS)
        print_table(header, [_row(session) for session in found.sessions], _NUMBERS)
        if found.total > len(found.sessions):
            print(f"\n{len(found.sessions)} of {found.total:,} sessions.")
        first = found.sessions[0].session_id
        suggest(f"{command_on(home, f'show {first}')} shows one in brief")
    else:
        print("There are no sessions." if status is None else f"No session is {status}.")


def _row(session: ListedSession) -> list[str]:
    span = f"{minute(session.start_time)[:10]} – {minute(session.end_time)[:10]}"
    return [
        session.session_id,
        session.strategy_label or "–",
        session.status,
        _few(session.pairs),
        f"{span} {interval_name(session.interval)}",
        f"{session.current_step / session.total_steps * 100:.1f} %",
        session.roi_pct or "–",
        _number(session.sharpe_ratio),
        _number(session.max_drawdown_pct),
        "–" if session.total_trades is None else f"{session.total_trades:,}",
    ]


def _few(names: list[str]) -> str:
    return " ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
