"""Who may call: keys and the accounts they open, or, without any key, this machine alone."""

import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from api.problems import Forbidden, Unauthorized
from api.routing import Access
from data.accounts import Key, default_agent, ensure_account, hash_key, list_keys
from data.store import Store

DEFAULT_ACCOUNT = "default"
TOKEN_HEADER = b"x-candlestep-token"
HEADERS = frozenset((b"x-api-key", b"authorization", b"host", b"origin", TOKEN_HEADER))
"""The headers that decide; in lower case."""


class Gate:
    """Decides whose a request is. Reads the keys once, and again when told that they changed."""

    def __init__(self, store: Store) -> None:
        """The gate of the store's accounts, with a new token for the command line."""
        self.token = secrets.token_urlsafe(32)
        self._store = store
        account = ensure_account(store, DEFAULT_ACCOUNT)
        agent = default_agent(store, account.account_id)
        self._anyone = (account.account_id, agent.agent_id)
        self._keys: dict[str, Key] = {}
        self.reload()

    @property
    def is_open(self) -> bool:
        """Whether no key was ever made, so that no request needs one."""
        return not self._ever_closed

    def reload(self) -> None:
        """Read the keys again. Blocks."""
        keys = list_keys(self._store)
        self._ever_closed = bool(keys)
        self._keys = {key.hash: key for key in keys if key.revoked_at is None}

    def caller(self, access: Access, headers: Mapping[bytes, bytes]) -> tuple[str, str]:
        """The account and the agent that a request acts for; raises if it may not be made.

        ``headers`` has those of ``HEADERS`` that were sent. Raises ``Unauthorized`` and
        ``Forbidden``.
        """
        if access == "admin":
            self._require_token(headers.get(TOKEN_HEADER, b""))
            return self._anyone
        if self.is_open:
            _require_local(headers)
            return self._anyone
        if access == "public":
            return self._anyone
        secret = _sent_key(headers)
        if secret is None:
            raise Unauthorized("send an API key in the header X-API-Key; `candlestep keys create`")
        key = self._keys.get(hash_key(secret))
        if key is None:
            raise Unauthorized("the API key is unknown or revoked; `candlestep keys create`")
        return key.account_id, key.agent_id

    def _require_token(self, token: bytes) -> None:
        if not hmac.compare_digest(token, self.token.encode()):
            raise Unauthorized("this path is for the candlestep command on the server's machine")


def _sent_key(headers: Mapping[bytes, bytes]) -> str | None:
    """The key in X-API-Key, or else in a Bearer authorization; empty ones count as absent."""
    key = headers.get(b"x-api-key", b"").strip()
    if not key:
        scheme, _, token = headers.get(b"authorization", b"").strip().partition(b" ")
        key = token.strip() if scheme.lower() == b"bearer" else b""
    return key.decode("latin-1") or None


def _require_local(headers: Mapping[bytes, bytes]) -> None:
    """Without keys, refuse what a web page could have a browser send."""
    refusal = _refusal(headers.get(b"host", b""), headers.get(b"origin"))
    if refusal is not None:
        raise Forbidden(refusal)


@lru_cache(maxsize=1024)
def _refusal(host_header: bytes, origin: bytes | None) -> str | None:
    """Why a request with these headers is refused without keys, if it is."""
    host = host_header.decode("latin-1")
    if not _is_loopback(_name(host)):
        return (
            "without API keys the server answers only under localhost; make a key with"
            " `candlestep keys create`, or use http://localhost"
        )
    if origin is not None and origin.decode("latin-1") not in (f"http://{host}", f"https://{host}"):
        return "without API keys the server refuses requests of other web pages"
    return None


def _name(host: str) -> str | None:
    """The name or address in a Host header, without its port; None if there is none."""
    if not (host.isascii() and all(c.isalnum() or c in ".-:[]" for c in host)):
        return None
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_loopback(name: str | None) -> bool:
    if name is None:
        return False
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
