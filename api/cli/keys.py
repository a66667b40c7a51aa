"""``candlestep keys``: create, list and revoke API keys."""

from typing import Any

import click
import msgspec

from candlestep.api.admin import keys
from candlestep.api.admin.operation import EmptyInput
from candlestep.api.cli.group import CommandGroup
from candlestep.api.cli.home import command_on, home_option, run
from candlestep.api.cli.messages import suggest
from candlestep.api.cli.terminal import minute, print_json, print_table
from candlestep.data.records.accounts import DEFAULT_ACCOUNT
from candlestep.sandbox import format_time


@click.group("keys", cls=CommandGroup)
def command() -> None:
    """Create, list and revoke API keys."""


@command.command("create")
@home_option
@click.argument("name", metavar="NAME")
@click.option(
    "--account",
    default=DEFAULT_ACCOUNT,
    metavar="NAME",
    help=f"Account that the key belongs to, created if it is new (default {DEFAULT_ACCOUNT}).",
)
@click.option(
    "--agent",
    metavar="AGENT",
    help="Agent that acts with the key, by name or id (default: the account's default agent).",
)
def create(home: str | None, name: str, account: str, agent: str | None) -> None:
    """Create an API key and show it, once.

    NAME says what the key is for.
    """
    created = run(keys.CREATE_KEY, home, keys.CreateKey(name, account, agent))
    key = created.key
    print(f"key      {created.secret}")
    print(f"id       {key.key_id}")
    print(f"account  {key.account}")
    print(f"agent    {key.agent} ({key.agent_id})")
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


def _print_keys(all_keys: list[keys.KeyInfo]) -> None:
    header = ("id", "name", "account", "agent", "created (UTC)", "revoked (UTC)")
    rows = []
    for key in all_keys:
        names = (key.key_id, key.name, key.account, key.agent)
        revoked_at = "" if key.revoked_at is None else minute(key.revoked_at)
        rows.append((*names, minute(key.created_at), revoked_at))
    print_table(header, rows)


def _as_json(key: keys.KeyInfo) -> dict[str, Any]:
    revoked_at = None if key.revoked_at is None else format_time(key.revoked_at)
    times = {"created_at": format_time(key.created_at), "revoked_at": revoked_at}
    return msgspec.structs.asdict(key) | times
