"""A session of this process as a recording: its start, and the commands that its orders tell of."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from candlestep.data.journal.recording import Recording
from candlestep.data.journal.records import (
    CancelOrderRecord,
    CancelRecord,
    CommandRecord,
    LeverageRecord,
    MarginModeRecord,
    MarginTransferRecord,
    OcoRecord,
    OrderRecord,
    ReplaceOrderRecord,
    Start,
    StepRecord,
)
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import Order, Session, format_time
from candlestep.sandbox.clock import DAY
from candlestep.sandbox.exchange.margin.account import MarginAccount, MarginChange

_LONGEST_LOOK_BACK = 3660 * DAY
_NUMBERS = ("price", "trigger_price", "quantity")


def session_commands(session: Session, *, exchange: str = DEFAULT_EXCHANGE) -> Recording:
    """Return the commands that lead to where a session is, without answers.

    ``exchange`` is that of its candles. Within a step, orders that had been pending are cancelled
    before others are placed. Linear in the orders and the changes of margin.
    """
    start = session.config.clock.start
    traded = {order.symbol for order in session.orders}
    if session.config.margin is not None:
        # Its settings may name a symbol that was not traded.
        traded = {*session.market.symbols}
    history = start - session.market.span[0]
    return Recording(
        Start(
            config=_config(session),
            pairs=sorted(traded or session.market.symbols),
            exchange=exchange,
            risk_profile=_risk_profile(session),
            look_back=min(max(history, 0), _LONGEST_LOOK_BACK),
        ),
        list(_commands(session)),
    )


def _commands(session: Session) -> Iterator[CommandRecord]:
    """Yield the commands of a session, with the steps between them."""
    timed: list[tuple[tuple[int, int, float], CommandRecord]] = []
    replaced = [order for order in session.orders if order.reason == "replaced"]
    for order in session.orders:
        if order.reason == "liquidate_at_end" or (order.fill and order.fill.is_liquidation):
            continue
        placement = _placement(order, session, replaced)
        if placement is not None:
            timed.append(((order.created_at, 1, order.id), placement))
        if order.status == "cancelled" and order.reason == "requested" and order.closed_at:
            is_new = order.closed_at == order.created_at
            place = (order.closed_at, 2 if is_new else 0, order.id)
            timed.append((place, CancelOrderRecord(order_id=order.id)))
    if isinstance(session.account, MarginAccount):
        for number, change in enumerate(session.account.changes, 1):
            # After the orders that were there, and before those that were not.
            after_orders = change.orders + number / (len(session.account.changes) + 1)
            timed.append(((change.time, 1, after_orders), _margin_record(change)))
    timed.sort(key=lambda one: one[0])
    clock = session.config.clock
    done = 0
    for (time, _, _), command in timed:
        step = (time - clock.start) // clock.interval
        if step > done:
            yield StepRecord(steps=step - done)
            done = step
        yield command
    if session.step_number > done:
        yield StepRecord(steps=session.step_number - done)
    if session.status == "cancelled":
        yield CancelRecord()


def _margin_record(change: MarginChange) -> CommandRecord:
    match change.kind:
        case "leverage":
            return LeverageRecord(symbol=change.symbol, leverage=change.value)
        case "margin_mode":
            return MarginModeRecord(symbol=change.symbol, margin_mode=change.value)
        case "transfer":
            return MarginTransferRecord(symbol=change.symbol, amount=change.value)


def _placement(order: Order, session: Session, replaced: list[Order]) -> CommandRecord | None:
    """Return the command that placed an order; None if another command placed it with its own.

    Orders that were ``replaced`` and whose replacement is found are removed from the list.
    """
    for old in replaced:
        if old.closed_at == order.created_at and old.id < order.id and _same(old, order):
            replaced.remove(old)
            numbers = {name: _text(getattr(order, name)) for name in _NUMBERS}
            changes = {name: text for name, text in numbers.items() if text is not None}
            return ReplaceOrderRecord(order_id=old.id, changes=changes)
    if order.parent_id is not None:
        return None  # The order that it guards placed it.
    if order.list_id is None:
        return OrderRecord(order=_order(order))
    if order.list_id != order.id:
        return None
    return OcoRecord(orders=[_order(order), _order(session.order(order.id + 1))])


def _same(old: Order, new: Order) -> bool:
    """Return whether one order may be in the place of the other, with other numbers."""
    return all(
        getattr(old, name) == getattr(new, name)
        for name in ("symbol", "side", "client_order_id", "oco_group", "list_id", "parent_id")
    )


def _config(session: Session) -> dict[str, Any]:
    config = session.config
    settings: dict[str, Any] = {
        "start_time": format_time(config.start_time),
        "end_time": format_time(config.end_time),
        "starting_balance": f"{config.starting_balance:f}",
        "candle_interval": config.clock.interval // 1000,
        "currency": config.currency,
        **config.costs.fees.settings(),
        "slippage": config.costs.slippage_settings(),
        "trigger": config.trigger,
        "liquidate_at_end": config.liquidate_at_end,
        "allow_gaps": config.allow_gaps,
    }
    if config.locking_stops:
        settings["locking_stops"] = True
    if config.margin is not None:
        settings |= {"market_type": config.market_type, **config.margin.settings()}
    instruments = [instrument.settings() for instrument in config.instruments.values()]
    return settings | ({"instruments": instruments} if instruments else {})


def _risk_profile(session: Session) -> dict[str, Any]:
    profile = msgspec.structs.asdict(session.config.risk)
    return {name: f"{limit:f}" for name, limit in profile.items() if limit is not None}


def _order(order: Order) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "symbol": order.symbol,
        "side": order.side,
        "type": order.type,
        "quantity": f"{order.quantity:f}" if order.quote_amount is None else None,
        "price": _text(order.price),
        "trigger_price": _text(order.trigger_price),
        "client_order_id": order.client_order_id,
        "oco_group": order.oco_group,
        "expires_at": None if order.expires_at is None else format_time(order.expires_at),
        "time_in_force": None if order.time_in_force == "gtc" else order.time_in_force,
        "post_only": order.post_only or None,
        "trail_percent": _text(order.trail_percent),
        "trail_amount": _text(order.trail_amount),
        "activation_price": _text(order.activation_price),
        "quote_amount": _text(order.quote_amount),
        "stop_loss": _text(order.stop_loss),
        "take_profit": _text(order.take_profit),
        "reduce_only": order.reduce_only,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"
