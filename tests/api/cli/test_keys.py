"""The commands on keys, on a home alone and next to a server that has its store open."""

import json
from pathlib import Path

from tests.support.command_line import candlestep


def test_a_key_is_shown_once_and_revoked(home: Path) -> None:
    none = candlestep("keys", "list", "--home", home)
    assert "There are no keys" in none.out
    done = candlestep("keys", "create", "laptop", "--home", home)
    assert (done.code, done.err) == (0, "")
    shown = dict(line.split(maxsplit=1) for line in done.out.splitlines()[:4])
    secret = shown["key"]
    assert secret.startswith("ak_")
    assert (shown["account"], shown["agent"].split()[0]) == ("default", "default")
    other = candlestep("keys", "create", "other", "--account", "ann", "--home", home)
    assert secret not in other.out

    for flags in ([], ["--json"]):
        listing = candlestep("keys", "list", *flags, "--home", home)
        assert secret not in listing.out
        assert shown["id"] in listing.out
    first, second = json.loads(candlestep("keys", "list", "--json", "--home", home).out)
    assert (first["name"], first["account"], first["revoked_at"]) == ("laptop", "default", None)
    assert (second["name"], second["account"]) == ("other", "ann")
    assert not {"secret", "hash"} & first.keys()

    revoked = candlestep("keys", "revoke", shown["id"], "--home", home)
    assert (revoked.code, revoked.err) == (0, "")
    first, second = json.loads(candlestep("keys", "list", "--json", "--home", home).out)
    assert first["revoked_at"] is not None
    assert second["revoked_at"] is None
    unknown = candlestep("keys", "revoke", "key_x", "--home", home)
    assert (unknown.code, unknown.out) == (1, "")
    assert "candlestep keys list" in unknown.err


def test_a_key_acts_for_an_agent_of_its_account_only(home: Path) -> None:
    created = candlestep("keys", "create", "a", "--account", "ann", "--home", home).out
    agent_id = created.split("(")[1].split(")")[0]
    by_id = candlestep(
        "keys", "create", "b", "--account", "ann", "--agent", agent_id, "--home", home
    )
    assert f"default ({agent_id})" in by_id.out
    for account in ("bob", "default"):
        done = candlestep(
            "keys", "create", "c", "--account", account, "--agent", agent_id, "--home", home
        )
        assert (done.code, done.out) == (1, "")
        assert f"the account {account} has no agent" in done.err
    for name in ("", " ", "x" * 101, "a\nb"):
        done = candlestep("keys", "create", name, "--home", home)
        assert (done.code, done.out) == (1, "")
        assert "must be a name" in done.err
    keys = json.loads(candlestep("keys", "list", "--json", "--home", home).out)
    assert [key["name"] for key in keys] == ["a", "b"]


def test_an_admin_key_is_marked(home: Path) -> None:
    candlestep("keys", "create", "plain", "--home", home)
    created = candlestep("keys", "create", "importer", "--admin", "--home", home)
    assert "import candles" in created.out
    lines = candlestep("keys", "list", "--home", home).out.splitlines()
    assert [line.endswith("admin") for line in lines] == [False, False, True]
    plain, admin = json.loads(candlestep("keys", "list", "--json", "--home", home).out)
    assert "admin" not in plain
    assert admin["admin"] is True
