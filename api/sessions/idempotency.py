"""Idempotency: a command sent again with the same key gets the same answer, and is not repeated."""

from collections import OrderedDict
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from candlestep.api.sessions.player import Refusal, Reply
from candlestep.data.journal.records import ForkRecord
from candlestep.sandbox import InvalidParameter, SandboxError

KEYS_KEPT = 256
"""The number of latest keys that a session remembers."""

_DIGEST_LENGTH = 16

_encode = msgspec.json.Encoder().encode
_decode_refusal = msgspec.json.Decoder(Refusal).decode


class IdempotencyKey(NamedTuple):
    """A key that a client chose, and a digest of the request that it sent with it."""

    key: str
    digest: str

    @classmethod
    def of(cls, key: str, action: str, body: Any) -> "IdempotencyKey":
        """Return the key of a request for an ``action`` (``step/batch``) with this body.

        The digest is stored in journals, so neither actions nor the fields of bodies may change.
        """
        digest = sha256(action.encode() + b"\0" + _encode(body)).hexdigest()
        return cls(key, digest[:_DIGEST_LENGTH])

    def require_same(self, digest: str) -> None:
        """Raise ``InvalidParameter`` if the key was used before for another request."""
        if self.digest != digest:
            raise InvalidParameter(
                "Idempotency-Key",
                "was used for another request; use a new key for each request, and the same key"
                " only to send that request again",
            )


class StoredReply(NamedTuple):
    """The reply to a request that had a key."""

    digest: str
    """The digest of the request."""
    status: int
    body: bytes
    fork: ForkRecord | None = None
    """The sessions that a fork created, from which its body is built again."""


class RepeatedRefusal(SandboxError):
    """The refusal with which a request with the same key was answered before."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message, **refusal.details)
        self.code = refusal.code


class ReplyCache:
    """The replies to the latest keys of a session. Every method is O(1)."""

    __slots__ = ("_replies", "size")

    def __init__(self) -> None:
        self._replies: OrderedDict[str, StoredReply] = OrderedDict()
        self.size = 0
        """Bytes of the replies."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._replies)

    def keep(self, key: str, reply: StoredReply) -> None:
        """Remember the reply to a key; the oldest of more than ``KEYS_KEPT`` is forgotten."""
        self._replies[key] = reply
        self.size += len(reply.body)
        if len(self._replies) > KEYS_KEPT:
            _, oldest = self._replies.popitem(last=False)
            self.size -= len(oldest.body)

    def find(self, key: IdempotencyKey) -> StoredReply | None:
        """Return the reply to a key, or None if the key is new.

        Raises ``InvalidParameter`` if the key was used for another request.
        """
        reply = self._replies.get(key.key)
        if reply is not None:
            key.require_same(reply.digest)
        return reply


def repeat_reply(stored: StoredReply) -> Reply:
    """Return a stored reply once more; raise it if it was a refusal."""
    if stored.status >= 400:
        raise RepeatedRefusal(_decode_refusal(stored.body))
    return Reply(stored.body, stored.status)
