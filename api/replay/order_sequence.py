"""Orders at wall-clock times, placed in a new session: each at the first step at or after its time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from candlestep.api.replay.local_target import LocalTarget, RecordedMarket
from candlestep.api.replay.order_file import BadOrder, FileOrder, bad_orders
from candlestep.api.replay.replay import ReportCommands, record_commands
from candlestep.api.schemas.fields import Money, Time
from candlestep.api.schemas.orders import OrderResponse, TradeResponse
from candlestep.api.schemas.results import PairResponse, ResultsSummary
from candlestep.api.sessions.player import Reply, recorded_config
from candlestep.data.journal.records import (
    CancelOrderRecord,
    CommandRecord,
    OrderRecord,
    Start,
    StepRecord,
)
from candlestep.data.market.catalogue import Series
from candlestep.data.symbols import is_perpetual, normalise_symbol, parse_symbol
from candlestep.sandbox import InvalidParameter, NoPrice, Order, format_time
from candlestep.sandbox.clock import Clock


class SequenceOutcome(msgspec.Struct, frozen=True):
    """The outcome of one row of a file of orders."""

    line: int
    step: int
    """The step at which it was placed."""
    time: Time
    """The time of that step."""
    order: OrderResponse | None
    """The order at the end of the session; None for a cancellation or a refusal."""
    cancelled: str | None
    """The client_order_id that the row cancels."""
    refusal: str | None
    """The reason for which the row was refused then."""


class SequenceResults(msgspec.Struct, frozen=True):
    """The results of a session in which the orders of a file were placed."""

    start_time: Time
    end_time: Time
    interval: int
    """Milliseconds."""
    starting_balance: Money
    summary: ResultsSummary
    by_pair: list[PairResponse]
    orders: list[SequenceOutcome]
    trades: list[TradeResponse]


class PlacedSequence(NamedTuple):
    """The session of a sequence, as the content of a recording, and its results."""

    recording: bytes
    results: SequenceResults


class _Placement(NamedTuple):
    step: int
    row: FileOrder


def symbols_of(orders: Sequence[FileOrder]) -> list[str]:
    """Return the symbols of orders, sorted."""
    return sorted({normalise_symbol(row.order["symbol"]) for row in orders if row.order})


def sequence_start(
    orders: Sequence[FileOrder],
    series: Sequence[Series],
    period: tuple[int, int],
    *,
    starting_balance: str,
    exchange: str,
    instruments: Sequence[Mapping[str, Any]],
) -> Start:
    """Return the start of a session for these orders, over the finest candles in the period.

    ``period`` is in milliseconds. Raises ``InvalidParameter``, and ``NoPrice`` if a symbol has no
    candles there.
    """
    symbols = symbols_of(orders)
    start, end = period
    usable = [
        one
        for one in series
        if one.exchange == exchange
        and one.symbol in symbols
        and one.start < end
        and start < one.end
    ]
    missing = sorted(set(symbols) - {one.symbol for one in usable})
    if missing:
        raise NoPrice(
            f"there are no candles of {', '.join(missing)} from {format_time(start)} to"
            f" {format_time(end)}; `candlestep data list` shows what there is",
            pairs=missing,
        )
    quotes = sorted({parse_symbol(symbol).quote for symbol in symbols})
    if len(quotes) > 1:
        raise InvalidParameter(
            "symbol", f"must all be quoted in one currency, not in {', '.join(quotes)}"
        )
    are_perpetuals = is_perpetual(symbols[0])
    if any(is_perpetual(symbol) != are_perpetuals for symbol in symbols):
        raise InvalidParameter("symbol", "must all be spot pairs, or all perpetuals")
    config: dict[str, Any] = {
        "start_time": format_time(start),
        "end_time": format_time(end),
        "starting_balance": starting_balance,
        "candle_interval": min(one.interval for one in usable) // 1000,
        "currency": quotes[0],
        "allow_gaps": False,
    }
    if are_perpetuals:
        config["market_type"] = "perp"
    if instruments:
        config["instruments"] = list(instruments)
    return Start(config=config, pairs=symbols, exchange=exchange)


def place_orders(
    file: str,
    orders: Sequence[FileOrder],
    start: Start,
    recorded: RecordedMarket,
    report: ReportCommands,
) -> PlacedSequence:
    """Place the orders of a file in a new session, and step it to its end.

    Within a step they are placed in the order of the file. An order that the exchange refuses is
    part of the results. Raises ``UnreadableFile`` naming rows outside the session, and
    ``SandboxError`` if the session cannot be.
    """
    config = recorded_config(start.config, start.risk_profile)
    config.require_candles(recorded.market)
    placements = _placements(file, orders, config.clock)
    target = LocalTarget(start, recorded)
    run = _SequenceRun(placements, config.clock)

    def note(command: CommandRecord, reply: Reply) -> None:
        run.note(command, reply)
        report(run.done, len(placements))

    lines = record_commands(start, run.commands(), target, note)
    session = target.session
    results = session.results()
    return PlacedSequence(
        lines,
        SequenceResults(
            format_time(config.clock.start),
            format_time(config.clock.end),
            config.clock.interval,
            f"{config.starting_balance:f}",
            ResultsSummary.of(results),
            [PairResponse.of(pair) for pair in results.by_pair],
            [run.outcome(placement, session.order) for placement in placements],
            [TradeResponse.of(fill) for fill in session.fills],
        ),
    )


def _placements(file: str, orders: Sequence[FileOrder], clock: Clock) -> list[_Placement]:
    """Return the orders with their steps, by step and then as in the file."""
    placements, bad = [], []
    for row in orders:
        step = -(-(row.time - clock.start) // clock.interval)
        if row.time < clock.start:
            bad.append(BadOrder(row.line, f"{format_time(row.time)} is before the session"))
        elif step >= clock.total_steps:
            bad.append(
                BadOrder(
                    row.line,
                    f"{format_time(row.time)} is after"
                    f" {format_time(clock.time(clock.total_steps - 1))}, the last step at which"
                    " an order can be placed",
                )
            )
        else:
            placements.append(_Placement(step, row))
    if bad:
        raise bad_orders(file, bad)
    return sorted(placements, key=lambda placement: placement.step)


class _SequenceRun:
    """The commands that place orders, which depend on the replies to those before."""

    def __init__(self, placements: Sequence[_Placement], clock: Clock) -> None:
        self.done = 0
        """The number of rows placed."""
        self._placements = placements
        self._clock = clock
        self._order_ids: dict[str, int] = {}
        """The ids of orders by their client_order_id."""
        self._replies: dict[int, Reply] = {}
        """The reply to each row, by line."""
        self._row: FileOrder | None = None

    def commands(self) -> Iterator[CommandRecord]:
        """Yield the commands; each must be noted before the next is taken."""
        step = 0
        for placement in self._placements:
            if placement.step > step:
                self._row = None
                yield StepRecord(steps=placement.step - step)
                step = placement.step
            row = self._row = placement.row
            if row.cancels is None:
                yield OrderRecord(order=row.order)
            elif row.cancels in self._order_ids:
                yield CancelOrderRecord(order_id=self._order_ids[row.cancels])
            self.done += 1
        self._row = None
        yield StepRecord(steps=self._clock.total_steps - step)

    def note(self, command: CommandRecord, reply: Reply) -> None:
        """Take the reply to the latest command."""
        row = self._row
        if row is None:
            return
        self._replies[row.line] = reply
        client_order_id = row.order.get("client_order_id")
        if reply.status < 300 and client_order_id is not None:
            self._order_ids[client_order_id] = _read_order_id(reply.body).order_id

    def outcome(self, placement: _Placement, order_of: Callable[[int], Order]) -> SequenceOutcome:
        """Return what became of a row; ``order_of`` returns an order by its id."""
        step, row = placement
        reply = self._replies.get(row.line)
        order = refusal = None
        if reply is None:
            refusal = f"order {row.cancels!r} was refused, so there was nothing to cancel"
        elif reply.status >= 300:
            refusal = _read_refusal(reply.body).message
        elif row.cancels is None:
            order = OrderResponse.of(order_of(_read_order_id(reply.body).order_id))
        return SequenceOutcome(
            row.line, step, format_time(self._clock.time(step)), order, row.cancels, refusal
        )


class _OrderId(msgspec.Struct):
    order_id: int


class _Message(msgspec.Struct):
    message: str


_read_order_id = msgspec.json.Decoder(_OrderId).decode
_read_refusal = msgspec.json.Decoder(_Message).decode
