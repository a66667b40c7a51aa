"""An agent that follows a card, as the tests' independent reading of it.

It steps a session one step at a time, looks at the candles that the session shows, and evaluates
every condition anew, number by number.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import talib

from candlestep.sandbox import (
    INTERVALS,
    InvalidParameter,
    Market,
    SandboxError,
    Session,
    SessionConfig,
)

Content = dict[str, Any]


def follow(content: Content, config: SessionConfig, market: Market) -> Session:
    """Run a session of ``config``, whose steps the agent takes, to its end; return it."""
    session = Session(config, market)
    agents = [
        Agent(content, session, symbol, len(content.get("symbols", market.symbols)))
        for symbol in sorted(content.get("symbols", market.symbols))
    ]
    while session.status == "running":
        for agent in agents:
            agent.look()
        session.step()
    return session


class Agent:
    """The part of the agent that trades one symbol."""

    def __init__(self, content: Content, session: Session, symbol: str, symbols: int) -> None:
        self.content = content
        self.session = session
        self.symbol = symbol
        self.symbols = symbols
        name = content.get("timeframe")
        self.interval = INTERVALS[name] if name else session.config.clock.interval
        self.seen = session.time - 1
        self.candles = 0

    def look(self) -> None:
        """Act if a candle has completed since the last look."""
        try:
            history = self.session.candles(self.symbol, self.interval // 1000, 10_000)
        except InvalidParameter:
            return
        if not history or history[-1].complete_time <= self.seen:
            return
        self.seen = history[-1].complete_time
        self.candles += 1
        columns = {
            name: np.array([float(getattr(candle, name)) for candle in history])
            for name in ("open", "high", "low", "close", "volume")
        }
        self.act(indicators(self.content.get("indicators", {}), columns))

    def act(self, columns: dict[str, Any]) -> None:
        position = {position.symbol: position.quantity for position in self.session.positions()}
        held = position.get(self.symbol, Decimal(0))
        side = "long" if held > 0 else "short"
        exits = [rule for rule in self.content.get("exits", []) if rule.get("side", side) == side]
        entries = self.content["entries"]
        if held and any(value(rule["when"], columns) for rule in exits):
            self.try_to_order(
                side="sell" if held > 0 else "buy",
                type="market",
                quantity=abs(held),
                reduce_only=True if self.session.config.margin else None,
            )
            entries = [entry for entry in entries if entry.get("side", "long") != side]
            held = Decimal(0)
        for entry in entries:
            if held and not (entry.get("add") and entry.get("side", "long") == side):
                continue
            due = (
                (self.candles - 1) % entry["every"] == 0
                if "every" in entry
                else value(entry["when"], columns)
            )
            if due:
                self.enter(entry)
                return

    def enter(self, entry: Content) -> None:
        size = entry["size"]
        side, opposite = ("sell", "buy") if entry.get("side") == "short" else ("buy", "sell")
        if "quantity" in size:
            quantity = Decimal(size["quantity"])
        else:
            cash = Decimal(size.get("quote", 0))
            if "equity_share" in size:
                share = Decimal(size["equity_share"]) * self.session.portfolio().total_equity
                cash = min(half_up(share / self.symbols), self.available())
            if not cash:
                return
            quantity = self.session.affordable(symbol=self.symbol, cash=cash, side=side)
        bought = self.try_to_order(side=side, type="market", quantity=quantity)
        if bought is None:
            return
        guards = {
            name: entry[name]["percent"] for name in ("stop_loss", "take_profit") if name in entry
        }
        for name, percent in guards.items():
            sign = -1 if (name == "stop_loss") == (side == "buy") else 1
            self.try_to_order(
                side=opposite,
                type=name,
                quantity=quantity,
                trigger_price=bought.fill.price * (100 + sign * Decimal(percent)) / 100,
                oco_group=f"guard-{bought.id}" if len(guards) == 2 else None,
            )

    def available(self) -> Decimal:
        """Return the cash, or what perpetuals may take of the margin."""
        settings = self.session.config.margin
        if settings is None:
            return self.session.account.available_cash
        margin = self.session.margin()
        if settings.margin_mode == "isolated":
            return max(min(margin.available_balance, margin.cross_wallet), Decimal(0))
        return margin.available_balance

    def try_to_order(self, **order: Any) -> Any:
        try:
            return self.session.place_order(symbol=self.symbol, **order)
        except SandboxError:
            return None


def half_up(amount: Decimal) -> Decimal:
    return Decimal(math.floor(amount * 10**8 + Decimal("0.5"))) / 10**8


def indicators(declared: Content, columns: dict[str, Any]) -> dict[str, Any]:
    """Compute the columns and every indicator over the history so far."""
    known = dict(columns)
    waiting = dict(declared)
    while waiting:
        for name, declaration in list(waiting.items()):
            if declaration.get("source", "close") in known:
                known.update(computed(name, waiting.pop(name), known))
    return known


def computed(name: str, declaration: Content, columns: dict[str, Any]) -> dict[str, Any]:
    source, period = columns[declaration.get("source", "close")], declaration.get("period", 0)
    match declaration["kind"]:
        case "sma":
            return {name: talib.SMA(source, timeperiod=period)}
        case "ema":
            return {name: talib.EMA(source, timeperiod=period)}
        case "rsi":
            return {name: talib.RSI(source, timeperiod=period)}
        case "atr":
            prices = (columns["high"], columns["low"], columns["close"])
            return {name: talib.ATR(*prices, timeperiod=period)}
        case "donchian":
            upper = talib.MAX(columns["high"], timeperiod=period)
            lower = talib.MIN(columns["low"], timeperiod=period)
            return {f"{name}.upper": upper, f"{name}.lower": lower}
        case "obv":
            return {name: talib.OBV(columns["close"], columns["volume"])}
    raise AssertionError(declaration)


def value(condition: Content, columns: dict[str, Any]) -> bool | None:
    """Return whether a condition holds at the latest candle; None while that is unknown."""
    if "all" in condition:
        parts = [value(part, columns) for part in condition["all"]]
        return False if False in parts else None if None in parts else True
    if "any" in condition:
        parts = [value(part, columns) for part in condition["any"]]
        return True if True in parts else None if None in parts else False
    if "not" in condition:
        negated = value(condition["not"], columns)
        return None if negated is None else not negated
    left, op, right = condition["left"], condition["op"], condition["right"]
    if op.startswith("crosses"):
        if op == "crosses_below":
            left, right = right, left
        was_above = compared(left, ">", right, columns, 1)
        is_above = compared(left, ">", right, columns, 0)
        if was_above is True or is_above is False:
            return False
        return None if None in (was_above, is_above) else True
    return compared(left, op, right, columns, 0)


def compared(left: Any, op: str, right: Any, columns: dict[str, Any], ago: int) -> bool | None:
    a, b = number(left, columns, ago), number(right, columns, ago)
    if math.isnan(a) or math.isnan(b):
        return None
    outcomes = {">": a > b, ">=": a >= b, "<": a < b, "<=": a <= b, "==": a == b, "!=": a != b}
    return outcomes[op]


def number(operand: Any, columns: dict[str, Any], ago: int) -> float:
    if isinstance(operand, dict):
        return number(operand["of"], columns, ago + operand["ago"])
    if not isinstance(operand, str):
        return float(operand)
    column = columns[operand]
    return float(column[-1 - ago]) if ago < len(column) else math.nan
