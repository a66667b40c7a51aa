"""Requests sent again: what carried an ``Idempotency-Key`` is answered once, and then repeated."""

from collections import OrderedDict
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

import msgspec

from candlestep.api.http.route import JsonBytes, Request
from candlestep.api.sessions.player import Refusal
from candlestep.data.journal.records import ForkRecord
from candlestep.sandbox import InvalidParameter, SandboxError

KEYS_KEPT = 256
"""Of a session: so many of the latest keys."""

_BODY_DIGITS = 16

_encode = msgspec.json.Encoder().encode
_decode_refusal = msgspec.json.Decoder(Refusal).decode


class IdempotencyKey(NamedTuple):
    """A key, and a digest of what was asked with it."""

    key: str
    body: str


class StoredReply(NamedTuple):
    """What a key was answered; with a record, the sessions that were forked."""

    body: str
    status: int
    answer: bytes
    fork: ForkRecord | None = None


class RepeatedRefusal(SandboxError):
    """The refusal that a request with the same key was answered with."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message, **refusal.details)
        self.code = refusal.code


class ReplyCache:
    """The latest keys of a session, and what each was answered. O(1) each."""

    __slots__ = ("_kept", "size")

    def __init__(self) -> None:
        self._kept: OrderedDict[str, StoredReply] = OrderedDict()
        self.size = 0
        """Of the answers, in bytes."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def keep(self, key: str, kept: StoredReply) -> None:
        """Note what a key was answered; the oldest of too many is forgotten."""
        self._kept[key] = kept
        self.size += len(kept.answer)
        if len(self._kept) > KEYS_KEPT:
            _, oldest = self._kept.popitem(last=False)
            self.size -= len(oldest.answer)

    def find(self, asked: IdempotencyKey) -> StoredReply | None:
        """What the key was answered; raises ``InvalidParameter`` if it asked for something else."""
        kept = self._kept.get(asked.key)
        if kept is not None:
            require_same(asked, kept.body)
        return kept


def asked(call: Request, what: str) -> IdempotencyKey | None:
    """The key of a request to do ``what``; None if it has none."""
    if call.key is None:
        return None
    digest = sha256(what.encode() + b"\0" + _encode(call.body)).hexdigest()
    return IdempotencyKey(call.key, digest[:_BODY_DIGITS])


def require_same(asked: IdempotencyKey, body: str) -> None:
    """Raise ``InvalidParameter`` if a key was used before to ask for something else."""
    if asked.body != body:
        raise InvalidParameter(
            "Idempotency-Key",
            "was used for another request; use a new key for each, and the same only to send"
            " that request again",
        )


def repeat_reply(kept: StoredReply) -> JsonBytes:
    """The answer once more; a refusal is raised."""
    if kept.status >= 400:
        raise RepeatedRefusal(_decode_refusal(kept.answer))
    return JsonBytes(kept.answer, kept.status)
