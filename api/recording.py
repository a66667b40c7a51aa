"""Commands as they are recorded, what each does to a session, and the digest of its answer.

A recording is lines of JSON: a header, then one object a command, in order. The server's journal,
its recovery, ``candlestep replay`` and the files under ``examples`` all use what is here.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from api.schemas import CancelOrderAnswer, OrderAnswer, StepTexts
from sandbox import (
    Candles,
    Market,
    RiskLimitExceeded,
    RiskProfile,
    SandboxError,
    Session,
    SessionConfig,
    Step,
    format_time,
)

FORMAT = 1
DIGEST_BYTES = 16
NO_DIGEST = bytes(DIGEST_BYTES)
"""What the chain of digests begins with."""

_encoder = msgspec.json.Encoder()


class Fingerprint(msgspec.Struct, frozen=True):
    """The candles of one symbol that a session can read: when, how many, and their SHA-256."""

    start: str
    end: str
    candles: int
    sha256: str


class Header(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a recorded session was started with. Without ``candles`` any market will do."""

    recording: Literal[1]
    start_time: str
    end_time: str
    pairs: list[str]
    starting_balance: Any
    candle_interval: str = "1m"
    exchange: str = "binance"
    config: dict[str, Any] = {}
    """Currency, fee rate, slippage, trigger and liquidate_at_end, where not the defaults."""
    risk_profile: dict[str, Any] = {}
    engine: str | None = None
    import_number: int | None = None
    candles: dict[str, Fingerprint] | None = None

    def session(self, market: Market) -> Session:
        """A session as it was started, on ``market``."""
        config = SessionConfig(
            start_time=self.start_time,
            end_time=self.end_time,
            starting_balance=self.starting_balance,
            candle_interval=self.candle_interval,
            risk=RiskProfile(**self.risk_profile),
            **self.config,
        )
        return Session(config, market)


class _Command(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="command",
    kw_only=True,
):
    """What every recorded command may have beside its own fields."""

    digest: str = ""
    """Of its answer and all before it, in hexadecimal; empty in a recording without digests."""
    at: int | None = None
    """The session's step after it."""
    key: str | None = None
    """The Idempotency-Key it was sent with, and below the hash of that request."""
    request: str | None = None
    status: int | None = None
    answer: msgspec.Raw | None = None
    """Its answer, where orders or fills are in it or a key asks for it."""


class StepCommand(_Command, tag="step", frozen=True):
    """``times`` equal steps, one after the other."""

    steps: int = 1
    times: int = 1
    fast: bool = False


class OrderCommand(_Command, tag="order", frozen=True):
    symbol: str
    side: str
    type: str
    quantity: Any
    price: Any = None
    trigger_price: Any = None
    client_order_id: str | None = None
    oco_group: str | None = None
    expires_at: str | None = None


class CancelOrderCommand(_Command, tag="cancel_order", frozen=True):
    order_id: int


class CancelCommand(_Command, tag="cancel", frozen=True):
    """The early end of the session."""


Command = StepCommand | OrderCommand | CancelOrderCommand | CancelCommand


class Refusal(msgspec.Struct, frozen=True):
    """A refusal that is part of the session's past: what of its answer does not vary."""

    code: str
    message: str
    details: dict[str, Any]


class Outcome(msgspec.Struct, frozen=True):
    """What a command led to: the HTTP status, the answer, and the step if it made one."""

    status: int
    answer: Any
    step: Step | None = None
    error: SandboxError | None = None

    @property
    def is_notable(self) -> bool:
        """Whether a recording keeps the answer: orders or fills are in it."""
        step = self.step
        return step is None or bool(step.orders_filled or step.orders_closed)


def perform(session: Session, texts: StepTexts, command: Command) -> Outcome:
    """Carry out one command.

    A refusal that changes nothing is raised; one by risk, which records an order, is an outcome.
    """
    match command:
        case StepCommand():
            step = session.step(command.steps)
            return Outcome(200, texts.answer(step), step)
        case OrderCommand():
            return _place(session, command)
        case CancelOrderCommand():
            cancelled = session.cancel_order(command.order_id)
            return Outcome(200, CancelOrderAnswer(cancelled.id, "cancelled", True))
        case CancelCommand():
            step = session.cancel()
            return Outcome(200, texts.answer(step), step)


def _place(session: Session, command: OrderCommand) -> Outcome:
    try:
        order = session.place_order(
            symbol=command.symbol,
            side=command.side,
            type=command.type,
            quantity=command.quantity,
            price=command.price,
            trigger_price=command.trigger_price,
            client_order_id=command.client_order_id,
            oco_group=command.oco_group,
            expires_at=command.expires_at,
        )
    except RiskLimitExceeded as error:
        refusal = Refusal(error.code, error.message, error.details)
        return Outcome(422, refusal, error=error)
    return Outcome(201, OrderAnswer.of(order))


def encoded(answer: Any) -> bytes:
    """An answer as it is sent, and as it counts for the digest."""
    return _encoder.encode(answer)


def chained(digest: bytes, body: bytes) -> bytes:
    """The digest of ``body`` and of all answers before it, whose digest is given."""
    return hashlib.blake2b(body, key=digest, digest_size=DIGEST_BYTES).digest()


def fingerprints(market: Market) -> dict[str, Fingerprint]:
    """The fingerprint of each symbol of ``market``."""
    return {symbol: _fingerprint(market.time_line(symbol)) for symbol in market.symbols}


def differing(expected: Mapping[str, Fingerprint], market: Market) -> list[str]:
    """In words, the symbols whose candles are not those of the fingerprints."""
    found = fingerprints(market)
    words = []
    for symbol, wanted in expected.items():
        actual = found.get(symbol)
        if actual is None:
            words.append(f"{symbol}: no candles, recorded were {_range(wanted)}")
        elif actual != wanted:
            words.append(f"{symbol}: {_range(actual)}, recorded were {_range(wanted)}")
    words += [f"{symbol}: not in the recording" for symbol in found if symbol not in expected]
    return words


def _range(fingerprint: Fingerprint) -> str:
    return (
        f"{fingerprint.candles} candles from {fingerprint.start} to {fingerprint.end}"
        f" (SHA-256 {fingerprint.sha256[:12]}…)"
    )


def _fingerprint(candles: Candles) -> Fingerprint:
    return Fingerprint(
        format_time(int(candles.open_time[0])),
        format_time(int(candles.complete_time[-1])),
        len(candles),
        candles.sha256,
    )
