"""The key that tokens are signed with: one of each store, made when it is first asked for."""

import secrets

from candlestep.data.store.database import Store, now

_BYTES = 32


def signing_key(store: Store) -> bytes:
    """The store's key. Who knows it can make tokens of any account; ``export`` leaves it out."""
    with store.transaction():
        found = store.rows("SELECT secret FROM signing_keys")
        if found:
            return bytes.fromhex(found[0][0])
        secret = secrets.token_bytes(_BYTES)
        store.execute(
            "INSERT INTO signing_keys VALUES (?, epoch_ms(?::BIGINT))", secret.hex(), now()
        )
        return secret
