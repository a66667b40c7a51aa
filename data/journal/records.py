"""The lines of a recording: one struct each, told apart by ``do``.

``at`` is the session's step after the command; ``key`` and ``body`` are the Idempotency-Key it
was sent with, and a digest of what was asked. The file format is fixed: the tags, the order of
the fields and the defaults that are left out.
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox.clock import DAY

FORMAT = 1
_LONGEST_LOOK_BACK = 3660 * DAY


class _Record(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="do",
):
    pass


class Origin(msgspec.Struct, frozen=True):
    """The past that a fork shares: the first ``size`` bytes of another session's journal."""

    session_id: str
    size: int
    digest: str
    """Of all answers up to there."""


class Start(_Record, frozen=True, tag="start"):
    """The first line: everything that a session depends on."""

    config: dict[str, Any]
    """As ``SessionConfig`` takes it."""
    pairs: list[str]
    exchange: str = DEFAULT_EXCHANGE
    risk_profile: dict[str, Any] = {}
    format: int = FORMAT
    engine: str | None = None
    """The version of Candlestep that wrote it."""
    session_id: str | None = None
    import_number: int | None = None
    """In the store that it ran on, the market is as of this import."""
    look_back: Annotated[int, Meta(ge=0, le=_LONGEST_LOOK_BACK)] | None = None
    """Of candles before its start, in milliseconds."""
    candles: dict[str, dict[str, str]] | None = None
    """Of each symbol and UTC month, a digest of the candles that the session can read."""
    forked_from: Origin | None = None
    at: int = 0
    key: str | None = None
    body: str | None = None
    digest: str | None = None


class StepRecord(_Record, frozen=True, tag="step"):
    """Steps; with fills or closed orders in the answer, it is kept.

    ``times`` of them in a row in which nothing happened are one record, with the last digest.
    """

    steps: int
    times: Annotated[int, Meta(ge=1, le=10**9)] = 1
    fast: bool = False
    """Whether it was asked for as ``step/batch/fast``; noted where the answer may be repeated."""
    at: int | None = None
    key: str | None = None
    body: str | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether it is known that nothing happened in it."""
        return self.answer is UNSET and self.digest is not None


class OrderRecord(_Record, frozen=True, tag="order"):
    """An order placed, or rejected by a risk limit (status 422)."""

    order: dict[str, Any]
    at: int | None = None
    key: str | None = None
    body: str | None = None
    status: int | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None


class CancelOrderRecord(_Record, frozen=True, tag="cancel_order"):
    """A pending order cancelled."""

    order_id: int
    at: int | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None


class CancelRecord(_Record, frozen=True, tag="cancel"):
    """The session ended early: the last record."""

    at: int | None = None
    key: str | None = None
    body: str | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None


class ForkRecord(_Record, frozen=True, tag="fork"):
    """Sessions that share the past up to here. It changes nothing in this one."""

    sessions: list[str]
    strategy_label: str
    forked_at: int
    """Wall clock, in milliseconds."""
    at: int
    size: int
    """Of this journal up to here, in bytes: what is shared."""
    digest: str
    """Of all answers up to here."""
    key: str | None = None
    body: str | None = None


class AnswerRecord(_Record, frozen=True, tag="answer"):
    """What a command with a key was answered that changed nothing: the key answers it again."""

    key: str
    body: str
    status: int
    answer: msgspec.Raw
    at: int | None = None


CommandRecord = StepRecord | OrderRecord | CancelOrderRecord | CancelRecord
Record = CommandRecord | ForkRecord | AnswerRecord
Line = Start | Record
