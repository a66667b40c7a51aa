"""The first key of a home, which an operator chose: clients of a team know it before the server."""

import re
from pathlib import Path

import structlog

from candlestep.api.settings import flag_name
from candlestep.data.records import accounts
from candlestep.data.store.database import Store
from candlestep.sandbox import InvalidParameter

_NAME = "first"
_SETTING = flag_name("first_key_file")
_KEY = re.compile(accounts.KEY_PREFIX + "[A-Za-z0-9_-]{43,200}", re.ASCII)
"""The number of characters that 256 random bits take in the alphabet of our keys."""
_LEAST_DIFFERENT = 12
"""The least number of different characters: random ones have more."""

log = structlog.get_logger()


def create_first_key(store: Store, path: Path) -> None:
    """Create a key of the default account whose secret is in a file, if there is no key yet.

    Keys that were revoked count. Raises ``InvalidParameter`` for a file that cannot be read, or
    does not hold a key that nobody can guess; its message does not show it.
    """
    if accounts.list_keys(store):
        return
    try:
        secret = path.read_text("ascii").strip()
    except UnicodeDecodeError:
        secret = ""
    except OSError as error:
        raise InvalidParameter(
            _SETTING, f"{path} cannot be read: {error.strerror}; the home has no key yet"
        ) from None
    if not _KEY.fullmatch(secret) or len(set(secret)) < _LEAST_DIFFERENT:
        raise InvalidParameter(
            _SETTING,
            f"{path} does not hold a key: write {accounts.KEY_PREFIX} and at least 43 random"
            f' letters and digits into it, such as: echo "{accounts.KEY_PREFIX}$(openssl rand -hex 32)"',
        )
    account = accounts.ensure_account(store, accounts.DEFAULT_ACCOUNT)
    key, _ = accounts.create_key(store, account.account_id, _NAME, secret=secret)
    log.info("first_key_created", key_id=key.key_id, account=account.name, file=str(path))
