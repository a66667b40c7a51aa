"""Authentication: by API key or token, or, while there is no key, by being on this machine."""

import hmac
import ipaddress
import secrets
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from candlestep.api.errors import Forbidden, InvalidApiKey, Unauthorized
from candlestep.api.http.route import AccessLevel
from candlestep.api.http.tokens import Claims, new_token, read_token
from candlestep.data.records.accounts import (
    DEFAULT_ACCOUNT,
    default_agent,
    ensure_account,
    hash_key,
    list_keys,
    signing_key,
)
from candlestep.data.store.database import Store

TOKEN_HEADER = b"x-candlestep-token"
HEADERS = frozenset((b"x-api-key", b"authorization", b"host", b"origin", TOKEN_HEADER))
"""The headers that authentication reads, in lower case."""

_MAX_CACHED_TOKENS = 1024


class Caller(NamedTuple):
    """The account and the agent for which a request acts."""

    account_id: str
    agent_id: str
    api_key_id: str | None
    """None while the server has no keys."""


class Authenticator:
    """Decides for whom a request acts. Keeps the keys in memory; ``reload`` reads them again."""

    def __init__(self, store: Store) -> None:
        """Read the keys of ``store``, and make a new token for the command line."""
        self.command_token = secrets.token_urlsafe(32)
        self._store = store
        account = ensure_account(store, DEFAULT_ACCOUNT)
        agent = default_agent(store, account.account_id)
        self._anyone = Caller(account.account_id, agent.agent_id, None)
        self._signing_key = signing_key(store)
        self._keys: dict[str, Caller] = {}
        self._tokens: dict[str, Claims] = {}
        """Tokens whose signatures are valid."""
        self.reload()

    @property
    def is_open(self) -> bool:
        """True until the first key is created: no request needs a key."""
        return not self._ever_closed

    def reload(self) -> None:
        """Read the keys again. Blocks."""
        keys = list_keys(self._store)
        self._ever_closed = bool(keys)
        valid = [key for key in keys if key.revoked_at is None]
        self._keys = {key.hash: Caller(key.account_id, key.agent_id, key.key_id) for key in valid}
        self._by_id = {caller.api_key_id: caller for caller in self._keys.values()}

    def token(self, account_id: str, api_key_id: str | None) -> str:
        """Return a token that gives the access of the key, briefly and while the key is valid."""
        return new_token(self._signing_key, account_id, api_key_id, int(time.time()))

    def caller(self, access: AccessLevel, headers: Mapping[bytes, bytes]) -> Caller:
        """Return the account and the agent for which a request with these ``HEADERS`` acts.

        Raises ``Unauthorized``, ``InvalidApiKey`` or ``Forbidden``.
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
        caller = None if secret is None else self._keys.get(hash_key(secret))
        if caller is None and access == "key":
            raise InvalidApiKey(
                "send an API key that is not revoked in the header X-API-Key;"
                " `candlestep keys create NAME` creates one"
            )
        if secret is None:
            raise Unauthorized(
                "send an API key in the header X-API-Key; `candlestep keys create NAME` creates one"
            )
        return caller or self._token_caller(secret)

    def _token_caller(self, token: str) -> Caller:
        claims = self._tokens.get(token) or read_token(self._signing_key, token)
        if claims is None:
            raise Unauthorized(
                "the API key is unknown or revoked; `candlestep keys create NAME` creates one"
            )
        if claims.expires_at <= time.time():
            self._tokens.pop(token, None)
            raise Unauthorized(
                "the token has expired; POST /api/v1/auth/token with the API key returns another"
            )
        if token not in self._tokens:
            if len(self._tokens) >= _MAX_CACHED_TOKENS:
                self._tokens.clear()
            self._tokens[token] = claims
        caller = self._by_id.get(claims.api_key_id)
        if caller is None:
            raise Unauthorized(
                "the API key of the token is revoked; `candlestep keys create NAME` creates one"
            )
        return caller

    def _require_token(self, token: bytes) -> None:
        if not hmac.compare_digest(token, self.command_token.encode()):
            raise Unauthorized(
                "this path is reserved for the candlestep command on the server's machine"
            )


def _sent_key(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the key in X-API-Key, or else in a Bearer authorization; empty ones count as absent."""
    key = headers.get(b"x-api-key", b"").strip()
    if not key:
        scheme, _, token = headers.get(b"authorization", b"").strip().partition(b" ")
        key = token.strip() if scheme.lower() == b"bearer" else b""
    return key.decode("latin-1") or None


def _require_local(headers: Mapping[bytes, bytes]) -> None:
    """Refuse, while there is no key, what a web page could make a browser send."""
    refusal = _refusal(headers.get(b"host", b""), headers.get(b"origin"))
    if refusal is not None:
        raise Forbidden(refusal)


@lru_cache(maxsize=1024)
def _refusal(host_header: bytes, origin: bytes | None) -> str | None:
    """Return why a request with these headers is refused while there is no key; None if it is not."""
    host = host_header.decode("latin-1")
    if not _is_loopback(_host_name(host)):
        return (
            "without API keys the server answers only requests to localhost; make a key with"
            " `candlestep keys create`, or use http://localhost"
        )
    if origin is not None and origin.decode("latin-1") not in (f"http://{host}", f"https://{host}"):
        return "without API keys the server refuses requests from other web pages"
    return None


def _host_name(host: str) -> str | None:
    """Return the name or address in a Host header, without its port; None if there is none."""
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
