"""Replay: a recording runs again, and where it is first answered otherwise is found.

A refusal is an answer too. Answers are compared with those recorded, and where only digests were,
with these: each is of all answers since the start.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import UNSET

from candlestep import __version__
from candlestep.api.errors import STATUS
from candlestep.api.schemas.account import PortfolioResponse
from candlestep.api.sessions.player import (
    CommandPlayer,
    digest_input,
    encode_refusal,
    recorded_config,
    start_digest,
)
from candlestep.data.imports.importer import latest_import
from candlestep.data.journal.candle_fingerprints import (
    Difference,
    Fingerprints,
    differences,
    fingerprint,
)
from candlestep.data.journal.compaction import compacted
from candlestep.data.journal.recording import Recording, chained, encoded
from candlestep.data.journal.records import (
    CancelOrderRecord,
    CancelRecord,
    CommandRecord,
    OrderRecord,
    Start,
    StepRecord,
)
from candlestep.data.market.candle_cache import LOOK_BACK, CandleCache
from candlestep.data.store.database import Store
from candlestep.data.symbols import normalise_exchange, normalise_symbol
from candlestep.sandbox import InvalidParameter, Market, SandboxError, Session
from candlestep.sandbox.errors import NoPrice

_BUDGET = 4 << 30
_TOLD_EVERY = 100
_NAMES: dict[type, str] = {
    StepRecord: "step",
    OrderRecord: "order",
    CancelOrderRecord: "cancel_order",
    CancelRecord: "cancel",
}

TellDone = Callable[[int, int], None]
"""Told how many commands of how many are done."""


class TargetReply(NamedTuple):
    """What a command was answered."""

    answer: bytes
    status: int


class ReplayTarget(Protocol):
    """A session that commands are played on."""

    def candles(self) -> Fingerprints:
        """What candles it can read."""

    def start_digest(self) -> bytes:
        """The digest of what its start answered."""

    def play(self, command: CommandRecord) -> TargetReply:
        """Play one command, once; a refusal is a reply."""

    def account(self) -> dict[str, Any]:
        """Its portfolio, as it is answered."""


class Divergence(msgspec.Struct, frozen=True):
    """The first command that is answered otherwise than it was."""

    line: int
    command: dict[str, Any]
    step: int
    """At which the session was before it."""
    expected: Any
    """None where only a digest of the answer was recorded."""
    actual: Any
    expected_status: int
    status: int
    account: dict[str, Any]
    """After it."""


class Replayed(msgspec.Struct, frozen=True):
    """How a replay went."""

    commands: int
    """How many were played."""
    compared: int
    """How many of these had an answer recorded, or a digest of it."""
    candles: list[Difference]
    """Where there are other candles than those that it was recorded on."""
    divergence: Divergence | None

    @property
    def is_same(self) -> bool:
        """Whether every answer was compared, and is what it was."""
        return self.divergence is None and not self.candles and self.compared == self.commands


class _Told(msgspec.Struct):
    """Of the answer to a step, what a replay has to know."""

    step: int
    orders_filled: list[msgspec.Raw]
    orders_closed: list[msgspec.Raw]


_read_step = msgspec.json.Decoder(_Told).decode


class LocalTarget:
    """A session of this process."""

    def __init__(self, start: Start, market: Market) -> None:
        config = recorded_config(start.config, start.risk_profile)
        self._player = CommandPlayer(Session(config, market))

    def candles(self) -> Fingerprints:
        """What candles it can read."""
        session = self._player.session
        return fingerprint(session.config, session.market)

    def start_digest(self) -> bytes:
        """The digest of what its start answered."""
        return start_digest(self._player.session)

    def play(self, command: CommandRecord) -> TargetReply:
        """Play one command, once; a refusal is a reply."""
        try:
            played = self._player.play(command)
        except SandboxError as error:
            return TargetReply(encode_refusal(error), STATUS.get(error.code, 500))
        return TargetReply(played.body, played.status)

    def account(self) -> dict[str, Any]:
        """Its portfolio, as it is answered."""
        portfolio = PortfolioResponse.of(self._player.session.portfolio())
        plain: dict[str, Any] = msgspec.to_builtins(portfolio)
        return plain


def load_market(store: Store, start: Start) -> Market:
    """The market that a recording is to run on: of today, or as it was if those are its candles.

    Blocks. Raises ``NoPrice`` where there are no candles, and ``InvalidParameter``.
    """
    config = recorded_config(start.config, start.risk_profile)
    exchange = normalise_exchange(start.exchange)
    pairs = [normalise_symbol(pair) for pair in start.pairs]
    look_back = LOOK_BACK if start.look_back is None else start.look_back
    cache = CandleCache(store, _BUDGET)

    def market_of(number: int) -> Market | None:
        found = cache.candles(
            exchange, pairs, number, config.start_time, config.end_time, look_back
        )
        within = (each.has_any(config.start_time, config.end_time) for each in found.values())
        return Market(found.values()) if any(within) else None

    def is_recorded(market: Market | None) -> bool:
        return market is not None and start.candles == fingerprint(config, market)

    latest = latest_import(store)
    market = market_of(latest)
    if not is_recorded(market) and start.import_number is not None:
        earlier = market_of(start.import_number) if start.import_number < latest else None
        market = earlier if is_recorded(earlier) else market
    if market is None:
        raise NoPrice(
            f"there are no candles of {', '.join(pairs[:5])} in the time of the recording;"
            " `candlestep data import FILE` imports some, and `candlestep data sample` the"
            " sample market",
            pairs=pairs,
        )
    return market


def replay(recording: Recording, target: ReplayTarget, tell: TellDone) -> Replayed:
    """Play a recording to its end, or to where it is first answered otherwise."""
    start = recording.start
    different = list(differences(start.candles, target.candles())) if start.candles else []
    digest = target.start_digest()
    if start.digest not in (None, digest.decode()):
        return Replayed(0, 0, different, _start_divergence(target))
    lines = [(n, r) for n, r in enumerate(recording.records, 2) if isinstance(r, CommandRecord)]
    if not lines and start.digest is None:
        raise InvalidParameter("recording", "has no commands, and no digest of its start")
    compared = step = 0
    for done, (line, command) in enumerate(lines, 1):
        before = step
        for reply in _replies(target, command):
            digest = chained(digest, digest_input(reply.answer, reply.status))
            step = _step_after(command, reply, step)
        compared += command.digest is not None or command.answer is not UNSET
        if not _is_as_recorded(command, reply, digest):
            divergence = _divergence(line, command, before, reply, target)
            return Replayed(done, compared, different, divergence)
        if done % _TOLD_EVERY == 0 or done == len(lines):
            tell(done, len(lines))
    return Replayed(len(lines), compared, different, None)


def record(recording: Recording, target: ReplayTarget, tell: TellDone) -> bytes:
    """Play a recording to its end, and write down every answer: the file of a recording."""
    digest = target.start_digest()
    start = msgspec.structs.replace(
        recording.start,
        engine=__version__,
        candles=target.candles(),
        digest=digest.decode(),
    )
    commands = [each for each in recording.records if isinstance(each, CommandRecord)]
    made: list[CommandRecord] = []
    step = 0
    for done, command in enumerate(commands, 1):
        for reply in _replies(target, command):
            digest = chained(digest, digest_input(reply.answer, reply.status))
            step = _step_after(command, reply, step)
            made.append(_recorded(command, reply, step, digest.decode()))
        if done % _TOLD_EVERY == 0 or done == len(commands):
            tell(done, len(commands))
    return encoded(start) + b"".join(map(encoded, compacted(made, ())))


def _replies(target: ReplayTarget, command: CommandRecord) -> Iterator[TargetReply]:
    if isinstance(command, StepRecord):
        once = msgspec.structs.replace(command, times=1)
        for _ in range(command.times):
            reply = target.play(once)
            yield reply
            if reply.status != 200:
                return  # So is every other: the session has ended.
    else:
        yield target.play(command)


def _is_as_recorded(command: CommandRecord, reply: TargetReply, digest: bytes) -> bool:
    """Whether the reply is what was recorded of it: a digest, the answer, both or nothing."""
    if command.digest is not None and command.digest != digest.decode():
        return False
    if isinstance(command, OrderRecord) and command.status not in (None, reply.status):
        return False
    if command.answer is UNSET or command.answer == reply.answer:
        return True
    expected, found = msgspec.json.decode(command.answer), msgspec.json.decode(reply.answer)
    if reply.status >= 400 and isinstance(expected, dict):
        # The words of a refusal are for people.
        expected["message"] = found["message"]
    return bool(expected == found)


def _step_after(command: CommandRecord, reply: TargetReply, step: int) -> int:
    is_step = isinstance(command, StepRecord) and reply.status == 200
    return _read_step(reply.answer).step if is_step else step


def _recorded(command: CommandRecord, reply: TargetReply, step: int, digest: str) -> CommandRecord:
    answer = msgspec.Raw(reply.answer)
    if isinstance(command, StepRecord):
        told = _read_step(reply.answer) if reply.status == 200 else None
        is_quiet = told is not None and not told.orders_filled and not told.orders_closed
        return StepRecord(
            steps=command.steps, at=step, answer=UNSET if is_quiet else answer, digest=digest
        )
    if isinstance(command, OrderRecord):
        return OrderRecord(
            order=command.order, at=step, status=reply.status, answer=answer, digest=digest
        )
    return msgspec.structs.replace(command, at=step, answer=answer, digest=digest)


def _start_divergence(target: ReplayTarget) -> Divergence:
    return Divergence(
        line=1,
        command={"do": "start"},
        step=0,
        expected=None,
        actual=None,
        expected_status=200,
        status=200,
        account=target.account(),
    )


def _divergence(
    line: int, command: CommandRecord, step: int, reply: TargetReply, target: ReplayTarget
) -> Divergence:
    asked: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(command))
    for name in ("answer", "digest", "at", "status"):
        asked.pop(name, None)
    expected = None if command.answer is UNSET else msgspec.json.decode(command.answer)
    status = command.status if isinstance(command, OrderRecord) else None
    return Divergence(
        line=line,
        command=asked,
        step=step,
        expected=expected,
        actual=msgspec.json.decode(reply.answer),
        expected_status=200 if status is None else status,
        status=reply.status,
        account=target.account(),
    )
