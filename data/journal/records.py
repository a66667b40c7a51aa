"""The lines of a recording: a struct for each kind, which the field ``do`` names.

``at`` is the step of the session after the command. ``key`` and ``body`` are the Idempotency-Key
of the request and a digest of its body. The file format is fixed: the tags, the order of the
fields and the defaults, which are omitted, must not change.
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
    """The digest of all answers up to there."""


class Start(_Record, frozen=True, tag="start"):
    """The first line: everything that a session depends on."""

    config: dict[str, Any]
    """Arguments of ``SessionConfig``."""
    pairs: list[str]
    exchange: str = DEFAULT_EXCHANGE
    risk_profile: dict[str, Any] = {}
    format: int = FORMAT
    engine: str | None = None
    """The version of Candlestep that wrote it."""
    session_id: str | None = None
    import_number: int | None = None
    """The import, in the store on which the session ran, as of which the session sees the market."""
    look_back: Annotated[int, Meta(ge=0, le=_LONGEST_LOOK_BACK)] | None = None
    """The length of the history before the start, in milliseconds."""
    candles: dict[str, dict[str, str]] | None = None
    """For each symbol and UTC month, a digest of the candles that the session can read.

    Mark prices and funding rates of a perpetual are under the names of their lines.
    """
    forked_from: Origin | None = None
    at: int = 0
    key: str | None = None
    body: str | None = None
    digest: str | None = None
    days: dict[str, dict[str, str]] | None = None
    """For each symbol and UTC day, a digest of its candles; only in a downloaded recording."""
    blind: dict[str, Any] | None = None
    """The real market of a blind session, and its seed; names and times here are in disguise."""


class StepRecord(_Record, frozen=True, tag="step"):
    """A command to step. Its answer is kept if it has fills or closed orders.

    ``times`` equal commands in a row in which nothing happened are one record, with the last digest.
    """

    steps: int
    times: Annotated[int, Meta(ge=1, le=10**9)] = 1
    fast: bool = False
    """True if the request was ``step/batch/fast``; set only if its answer may have to be repeated."""
    at: int | None = None
    key: str | None = None
    body: str | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None

    @property
    def is_quiet(self) -> bool:
        """True if nothing happened in these steps."""
        return self.answer is UNSET and self.digest is not None


class OrderRecord(_Record, frozen=True, tag="order"):
    """An order that was placed, or rejected by a risk limit (status 422)."""

    order: dict[str, Any]
    at: int | None = None
    key: str | None = None
    body: str | None = None
    status: int | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None


class OcoRecord(_Record, frozen=True, tag="oco"):
    """Two orders that were placed at once, or of which one was rejected by a risk limit (422)."""

    orders: list[dict[str, Any]]
    at: int | None = None
    key: str | None = None
    body: str | None = None
    status: int | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None


class ReplaceOrderRecord(_Record, frozen=True, tag="replace_order"):
    """The replacement of a pending order by one with other numbers, or its rejection (422)."""

    order_id: int
    changes: dict[str, Any]
    at: int | None = None
    key: str | None = None
    body: str | None = None
    status: int | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None


class CancelOrderRecord(_Record, frozen=True, tag="cancel_order"):
    """The cancellation of a pending order."""

    order_id: int
    at: int | None = None
    key: str | None = None
    body: str | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None


class TurnRecord(_Record, frozen=True, tag="turn"):
    """A turn: what was cancelled, placed and stepped, in this sequence, as far as it was done.

    A part that was refused and changed nothing is left out; an order that a risk limit rejected is
    the last of ``orders``. ``answer`` is the answer to these parts; it is kept if there are any
    orders or cancellations, or fills or closed orders.
    """

    orders: list[dict[str, Any]] = []
    cancel: list[int] = []
    steps: int = 0
    at: int | None = None
    key: str | None = None
    body: str | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    reply: msgspec.Raw | UnsetType = UNSET
    """The answer that was sent, to be repeated for the key, where it tells of more parts."""
    digest: str | None = None


class LeverageRecord(_Record, frozen=True, tag="leverage"):
    """A change of the leverage of a perpetual."""

    symbol: str
    leverage: str
    at: int | None = None
    key: str | None = None
    body: str | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None


class MarginModeRecord(_Record, frozen=True, tag="margin_mode"):
    """A change of the margin mode of a perpetual."""

    symbol: str
    margin_mode: str
    at: int | None = None
    key: str | None = None
    body: str | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None


class MarginTransferRecord(_Record, frozen=True, tag="margin"):
    """A transfer to the isolated wallet of a perpetual, or with a negative amount from it."""

    symbol: str
    amount: str
    at: int | None = None
    key: str | None = None
    body: str | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None


class CancelRecord(_Record, frozen=True, tag="cancel"):
    """The early end of the session. It is the last record."""

    at: int | None = None
    key: str | None = None
    body: str | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None


class ForkRecord(_Record, frozen=True, tag="fork"):
    """A fork: sessions that share the past up to here. It does not change this session."""

    sessions: list[str]
    strategy_label: str
    forked_at: int
    """Wall clock, in milliseconds."""
    at: int
    size: int
    """The length of this journal up to here, in bytes; forks share these."""
    digest: str
    """The digest of all answers up to here."""
    key: str | None = None
    body: str | None = None


class AnswerRecord(_Record, frozen=True, tag="answer"):
    """The answer to a command with a key that changed nothing, to be repeated for that key."""

    key: str
    body: str
    status: int
    answer: msgspec.Raw
    at: int | None = None


MarginChange = LeverageRecord | MarginModeRecord | MarginTransferRecord
"""The commands that only sessions on perpetuals have."""
CommandRecord = (
    StepRecord
    | OrderRecord
    | OcoRecord
    | ReplaceOrderRecord
    | CancelOrderRecord
    | TurnRecord
    | MarginChange
    | CancelRecord
)
Record = CommandRecord | ForkRecord | AnswerRecord
Line = Start | Record
