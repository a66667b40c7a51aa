"""Authentication: by API key or token, or, while there is no key, by being on this machine."""

import hmac
import ipaddress
import secrets
import time
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from candlestep.api.errors import Forbidden, InvalidApiKey, Unauthorized
from candlestep.api.http.route import AccessLevel
from candlestep.api.http.tokens import Claims, new_token, read_token
from candlestep.data.records import accounts
from candlestep.data.store.database import Store
from candlestep.data.store.server_file import TOKEN_HEADER

_TOKEN_HEADER = TOKEN_HEADER.encode()
HEADERS = frozenset((b"x-api-key", b"authorization", b"host", b"origin", _TOKEN_HEADER))
"""The headers that authentication reads, in lower case."""

_MAX_CACHED_TOKENS = 1024
_MAX_DERIVED = 4096
_HOW_TO_CREATE_ONE = "`candlestep keys create NAME` creates one"


class Caller(NamedTuple):
    """The account and the agent for which a request acts."""

    account_id: str
    agent_id: str
    api_key_id: str | None
    """None while the server has no keys."""
    is_admin: bool = False
    session_id: str | None = None
    """The one session that the key may use; None: all of the account."""


class Authenticator:
    """Decides for whom a request acts. Keeps the keys in memory; ``reload`` reads them again."""

    def __init__(self, store: Store, allowed_origins: Collection[str] = ()) -> None:
        """Read the keys of ``store``, and make a new token for the command line.

        While there is no key, web pages of other origins than ``allowed_origins`` are refused.
        """
        self._allowed_origins = frozenset(origin.encode() for origin in allowed_origins)
        self.command_token = secrets.token_urlsafe(32)
        self._store = store
        account = accounts.ensure_account(store, accounts.DEFAULT_ACCOUNT)
        agent = accounts.default_agent(store, account.account_id)
        self._anyone = Caller(account.account_id, agent.agent_id, None)
        self._keys: dict[str, Caller] = {}
        self._tokens: dict[str, Claims] = {}
        """Tokens whose signatures are valid."""
        self.reload()

    @property
    def is_open(self) -> bool:
        """True until the first key is created: no request needs a key."""
        return not self._ever_closed

    def reload(self) -> None:
        """Read the keys, and what tokens are signed with, again. Blocks."""
        self._signing_key = accounts.signing_key(self._store)
        self._derived: dict[str, str] = {}
        self._server_name = accounts.server_name(self._store)
        self._tokens.clear()
        self._account_names = {
            account.account_id: account.name for account in accounts.list_accounts(self._store)
        }
        keys = accounts.list_keys(self._store)
        self._ever_closed = bool(keys)
        valid = [key for key in keys if key.revoked_at is None]
        self._keys = {
            key.hash: Caller(key.account_id, key.agent_id, key.key_id, key.is_admin, key.session_id)
            for key in valid
        }
        self._by_id = {caller.api_key_id: caller for caller in self._keys.values()}

    def token(self, account_id: str, api_key_id: str | None) -> str:
        """Return a token that gives the access of the key, briefly and while the key is valid."""
        now = int(time.time())
        return new_token(self._signing_key, account_id, api_key_id, now, self._server_name)

    def caller(self, access: AccessLevel, headers: Mapping[bytes, bytes]) -> Caller:
        """Return the account and the agent for which a request with these ``HEADERS`` acts.

        Raises ``Unauthorized``, ``InvalidApiKey`` or ``Forbidden``.
        """
        if access == "admin":
            self._require_token(headers.get(_TOKEN_HEADER, b""))
            return self._anyone
        if self.is_open:
            self._require_local(headers)
            return self._anyone
        if access in ("public", "signature"):
            return self._anyone
        secret = _sent_key(headers)
        caller = None if secret is None else self._keys.get(accounts.hash_key(secret))
        if caller is None and access == "key":
            raise InvalidApiKey(
                f"send an API key that is not revoked in the header X-API-Key; {_HOW_TO_CREATE_ONE}"
            )
        if secret is None:
            raise Unauthorized(f"send an API key in the header X-API-Key; {_HOW_TO_CREATE_ONE}")
        caller = caller or self._token_caller(secret)
        if access == "admin_key" and not caller.is_admin:
            raise Forbidden(
                "the API key may not change the data that all accounts share;"
                " `candlestep keys create NAME --admin` creates one that may"
            )
        return caller

    def _token_caller(self, token: str) -> Caller:
        claims = self._tokens.get(token) or read_token(self._signing_key, token, int(time.time()))
        if claims is None:
            raise Unauthorized(f"the API key is unknown or revoked; {_HOW_TO_CREATE_ONE}")
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
            raise Unauthorized(f"the API key of the token is revoked; {_HOW_TO_CREATE_ONE}")
        return caller

    def derived_secret(self, text: str) -> str:
        """Return a secret that this server alone can make of ``text``: 64 hexadecimal digits.

        It changes when what tokens are signed with does.
        """
        # Taken before the key: another thread may put both anew, the key first.
        known = self._derived
        secret = known.get(text)
        if secret is None:
            secret = hmac.new(self._signing_key, text.encode(), "sha256").hexdigest()
            if len(known) >= _MAX_DERIVED:
                known.clear()
            known[text] = secret
        return secret

    def has_key(self, key_id: str) -> bool:
        """Return whether there is a key with this id, not revoked."""
        return key_id in self._by_id

    def account_name(self, account_id: str) -> str | None:
        """Return the name of an account; None if there is none of this id."""
        return self._account_names.get(account_id)

    def _require_local(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse, while there is no key, what a web page could make a browser send."""
        origin = headers.get(b"origin")
        refusal = _refusal(
            headers.get(b"host", b""), None if origin in self._allowed_origins else origin
        )
        if refusal is not None:
            raise Forbidden(refusal)

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
        return (
            "without API keys the server refuses requests from other web pages, except those that"
            " --allow-origin names"
        )
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
