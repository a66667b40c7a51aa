"""Dialects of sessions: the keys that a client of an exchange signs with, and how its time passes."""

import hmac
import secrets
import string
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from candlestep.api.threads import Threads
from candlestep.data.records.dialects import DialectKey, add_dialect_key, dialect_keys
from candlestep.data.store.database import Store

Dialect = Literal["binance"]
Clock = Literal["manual", "lockstep", "paced"]

KEY_PREFIX = "cs"
_KEY_LETTERS = 30
_MOST_IN_MEMORY = 1024
_OPENER = "opened_by"
"""The name, among the stored settings of a key, of the id of the session's key that made it."""


class DialectSettings(msgspec.Struct, frozen=True):
    """The choices of a session that is traded in a dialect."""

    clock: Clock = "manual"
    speed: float = 60.0
    """Seconds of the market in a second of the wall clock; of the clock ``paced``."""
    strict_time: bool = False
    """True if requests are refused whose timestamp is not the virtual time."""
    rate_limits: bool = False
    """True if too many requests in a minute are refused."""
    symbols: dict[str, dict[str, str]] = {}
    """Filters by symbol that replace those of the session, as texts."""


class Credentials(msgspec.Struct, frozen=True):
    """A key and the secret that its requests are signed with."""

    api_key: str
    api_secret: str


class OpenDialect(msgspec.Struct, frozen=True):
    """A session that clients of a dialect may use."""

    account_id: str
    session_id: str
    settings: DialectSettings
    """Those of the latest key."""
    openers: Mapping[str, str | None]
    """By the hash of each key, the id of the session's key that made it; None: its owner did."""


class Dialects:
    """The dialects of all sessions. Secrets are made of the server's own, and never stored."""

    def __init__(
        self,
        store: Store,
        threads: Threads,
        derived_secret: Callable[[str], str],
        has_key: Callable[[str], bool],
    ) -> None:
        """Make secrets with ``derived_secret``, which gives one for a text.

        ``has_key`` tells whether the API key with an id is valid.
        """
        self._store = store
        self._threads = threads
        self._derived_secret = derived_secret
        self._has_key = has_key
        self._open: OrderedDict[str, OpenDialect] = OrderedDict()

    async def open(
        self,
        account_id: str,
        session_id: str,
        dialect: Dialect,
        settings: DialectSettings,
        opener: str | None,
    ) -> Credentials:
        """Make another key of a session. Keys that were made before stay valid.

        One that was made with a key of the session, of the id ``opener``, ends with that.
        """
        letters = string.ascii_letters + string.digits
        api_key = KEY_PREFIX + "".join(secrets.choice(letters) for _ in range(_KEY_LETTERS))
        await self._threads.run(
            add_dialect_key,
            self._store,
            account_id,
            session_id,
            dialect,
            self._hash(api_key),
            msgspec.to_builtins(settings) | ({} if opener is None else {_OPENER: opener}),
        )
        self._open.pop(session_id, None)
        return Credentials(api_key, self.secret_of(api_key))

    async def find(self, session_id: str) -> OpenDialect | None:
        """Return the dialect of a session; None if none was ever opened."""
        known = self._open.get(session_id)
        if known is not None:
            self._open.move_to_end(session_id)
            return known
        keys = await self._threads.read(dialect_keys, self._store, session_id)
        if not keys:
            return None
        found = _open_dialect(keys)
        self._open[session_id] = found
        while len(self._open) > _MOST_IN_MEMORY:
            self._open.popitem(last=False)
        return found

    def secret_of(self, api_key: str) -> str:
        """Return the secret that belongs to a key."""
        return self._derived_secret("dialect:" + api_key)

    def accepts(self, dialect: OpenDialect, api_key: str) -> bool:
        """Return whether a key is one of the session's, made with what the server signs with.

        One that a key of the session has made is not, once that is revoked.
        """
        sent = self._hash(api_key)
        return any(
            hmac.compare_digest(sent, known) and (opener is None or self._has_key(opener))
            for known, opener in dialect.openers.items()
        )

    def _hash(self, api_key: str) -> str:
        return self._derived_secret("dialect key:" + api_key)


def _open_dialect(keys: list[DialectKey]) -> OpenDialect:
    latest = keys[-1]
    settings: Any = msgspec.convert(latest.settings, DialectSettings)
    openers = {key.key_hash: key.settings.get(_OPENER) for key in keys}
    return OpenDialect(latest.account_id, latest.session_id, settings, openers)
