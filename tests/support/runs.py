"""Runs of strategies on small markets, and the parts of them that tests compare."""

from __future__ import annotations

from typing import Any

from hypothesis import reject, settings

from candlestep.sandbox import InvalidParameter, Market, Session, SessionConfig
from candlestep.sandbox.strategies import Run, compile_strategy, run
from tests.support.session_cases import Bar, Series, serialised

FEWER = settings(max_examples=max(1, settings().max_examples // 3))
"""A third of the examples that a property of sessions is tried with."""
MINUTE = 60_000


def minutes(closes: list[float], symbol: str = "AAAUSDT") -> tuple[Series, ...]:
    """Return candles of a minute from time 0 on, each opening at the close before it, without wicks."""
    opens = [closes[0], *closes]
    bars = tuple(
        Bar(k * MINUTE, o, max(o, c), min(o, c), c, 1.0)
        for k, (o, c) in enumerate(zip(opens, closes, strict=False))
    )
    return (Series(symbol, MINUTE, bars),)


def config(steps: int, start: int = MINUTE, **options: Any) -> SessionConfig:
    return SessionConfig(
        start_time=start,
        end_time=start + steps * MINUTE,
        starting_balance="1000",
        **{"fee_rate": 0, "slippage": {"model": "none"}, **options},
    )


def run_or_skip(content: dict[str, Any], config: SessionConfig, market: Market) -> Run:
    """Run a strategy; skip the case if the market has no candles of its timeframe."""
    try:
        return run(compile_strategy(content), config, market)
    except InvalidParameter as refusal:
        if refusal.details["field"] != "timeframe":
            raise
        reject()


def ordered(done: Run) -> list[tuple[int, str, str, str]]:
    """Return minute, side, quantity and price of every fill."""
    return [
        (
            fill.time // MINUTE,
            fill.side,
            f"{fill.quantity.normalize():f}",
            f"{fill.price.normalize():f}",
        )
        for fill in done.session.fills
    ]


def outcome(session: Session) -> dict[str, str]:
    return {
        "orders": serialised(session.orders),
        "fills": serialised(session.fills),
        "snapshots": serialised(session.snapshots()),
        "results": serialised(session.results()),
    }


def until(done: Run, now: int) -> object:
    """Return orders, fills and signals up to the last step that is not after ``now``."""
    clock = done.session.config.clock
    last = clock.start + (now - clock.start) // clock.interval * clock.interval
    if last == clock.end:
        last -= 1  # Pending orders are cancelled at the end.
    placed = [replace_end(order) for order in done.session.orders if order.created_at <= last]
    fills = [fill for fill in done.session.fills if fill.time <= last]
    signals = [signal for signal in done.signals if signal.time <= last]
    return serialised((placed, fills, signals))


def replace_end(order: Any) -> Any:
    """Return an order as it was placed, without its later state."""
    return (
        order.id,
        order.symbol,
        order.side,
        order.type,
        order.quantity,
        order.price,
        order.trigger_price,
        order.oco_group,
        order.created_at,
    )
