"""``candlestep keys``: create, list and revoke API keys."""

from typing import Any

import click
import msgspec

from candlestep.api import settings
from candlestep.api.admin import keys
from candlestep.api.admin.operation import EmptyInput
from candlestep.api.cli.group import CommandGroup
from candlestep.api.cli.home import command_on, home_option, run
from candlestep.api.cli.messages import sentence, suggest
from candlestep.api.cli.terminal import minute, print_json, print_table
from candlestep.api.settings import DESCRIPTIONS
from candlestep.data.records.accounts import DEFAULT_ACCOUNT
from candlestep.sandbox import format_time


@click.group("keys", cls=CommandGroup)
def command() -> None:
    """Create, list and revoke API keys."""


@command.command("create")
@home_option
@click.argument("name", metavar="[NAME]", required=False)
@click.option(
    "--session",
    metavar="ID",
    help="Let the key step, trade and read this session, and nothing else.",
)
@click.option(
    "--account",
    metavar="NAME",
    help=f"Account that the key belongs to, created if it is new (default {DEFAULT_ACCOUNT}).",
)
@click.option(
    "--agent",
    metavar="AGENT",
    help="Agent that acts with the key, by name or id (default: the account's default agent).",
)
@click.option(
    "--admin",
    "is_admin",
    is_flag=True,
    help="Let the key import candles and change instruments over HTTP.",
)
@click.option("--server-name", metavar="NAME", help=sentence(DESCRIPTIONS["server_name"]))
def create(
    home: str | None,
    name: str | None,
    session: str | None,
    account: str | None,
    agent: str | None,
    is_admin: bool,
    server_name: str | None,
) -> None:
    """Create an API key and show it, once.

    NAME says what the key is for; that of a session needs none.
    """
    if session is not None and (account or agent or is_admin):
        raise click.UsageError("--session excludes --account, --agent and --admin")
    if name is None and session is None:
        raise click.UsageError("Missing argument 'NAME'.")
    named = settings.server_name(server_name)
    request = keys.CreateKey(
        "session" if name is None else name,
        account or DEFAULT_ACCOUNT,
        agent,
        is_admin,
        named,
        session,
    )
    created = run(keys.CREATE_KEY, home, request)
    key = created.key
    print(f"key      {created.secret}")
    print(f"id       {key.key_id}")
    print(f"account  {key.account}")
    print(f"agent    {key.agent} ({key.agent_id})")
    if key.session_id is not None:
        print(f"session  {key.session_id}")
    if key.is_admin:
        print("admin    may import candles and change instruments")
    suggest("keep the key, it is not shown again; send it as X-API-Key or Authorization: Bearer")


@command.command("list")
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(home: str | None, as_json: bool) -> None:
    """List the keys, without their secrets."""
    all_keys = run(keys.LIST_KEYS, home, EmptyInput()).keys
    if as_json:
        print_json([_as_json(key) for key in all_keys])
    elif all_keys:
        _print_keys(all_keys)
    else:
        print("There are no keys: a server answers this machine only, without asking for one.")
        suggest(f"{command_on(home, 'keys create NAME')} creates one")


@command.command("revoke")
@home_option
@click.argument("key_id", metavar="ID")
def revoke(home: str | None, key_id: str) -> None:
    """Revoke a key, so that requests with it are refused."""
    key = run(keys.REVOKE_KEY, home, keys.RevokeKey(key_id))
    print(f"The key {key.name} ({key.key_id}) is revoked.")


@command.command("rotate-secret")
@home_option
def rotate_secret(home: str | None) -> None:
    """End all tokens, by signing new ones with another secret.

    Keys stay valid. Do this when somebody else may have read the home or a copy of it.
    """
    run(keys.ROTATE_SECRET, home, EmptyInput())
    print("All tokens have ended.")
    suggest("POST /api/v1/auth/token with an API key returns a new one")


def _print_keys(all_keys: list[keys.KeyInfo]) -> None:
    header = ("id", "name", "account", "agent", "created (UTC)", "revoked (UTC)", "")
    rows = []
    for key in all_keys:
        names = (key.key_id, key.name, key.account, key.agent)
        revoked_at = "" if key.revoked_at is None else minute(key.revoked_at)
        mark = "admin" if key.is_admin else key.session_id or ""
        rows.append((*names, minute(key.created_at), revoked_at, mark))
    print_table(header, rows)


def _as_json(key: keys.KeyInfo) -> dict[str, Any]:
    revoked_at = None if key.revoked_at is None else format_time(key.revoked_at)
    times = {"created_at": format_time(key.created_at), "revoked_at": revoked_at}
    fields = msgspec.structs.asdict(key) | times
    if key.session_id is None:
        del fields["session_id"]
    if not fields.pop("is_admin"):
        return fields
    return fields | {"admin": True}
