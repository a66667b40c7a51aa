"""Hypothesis strategies: cards whose conditions are sometimes true on the small markets."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

OPERATORS = (">", ">=", "<", "<=", "==", "!=", "crosses_above", "crosses_below")
INDICATORS: dict[str, dict[str, Any]] = {
    "fast": {"kind": "sma", "period": 2},
    "slow": {"kind": "ema", "period": 4, "source": "close"},
    "of_slow": {"kind": "sma", "period": 3, "source": "slow"},
    "rsi": {"kind": "rsi", "period": 3},
    "range": {"kind": "atr", "period": 2},
    "channel": {"kind": "donchian", "period": 3},
    "flow": {"kind": "obv"},
}
PRICES = ("open", "high", "low", "close")
OPERANDS = (*PRICES, "close", "fast", "slow", "of_slow", "channel.upper", "channel.lower")


@st.composite
def comparisons(draw: st.DrawFn) -> dict[str, Any]:
    operator = draw(st.sampled_from(OPERATORS))
    if draw(st.integers(0, 4)) == 4:
        pair = draw(st.sampled_from([("rsi", 50), ("rsi", 30.5), ("range", 0), ("flow", 0)]))
        return {"left": pair[0], "op": operator, "right": pair[1]}
    operand = st.sampled_from(OPERANDS)
    left: Any = draw(operand)
    right: Any = draw(operand)
    if draw(st.integers(0, 3)) == 3:
        right = {"of": right, "ago": draw(st.integers(1, 3))}
    return {"left": left, "op": operator, "right": right}


def conditions() -> st.SearchStrategy[dict[str, Any]]:
    def combined(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
        several = st.lists(parts, min_size=1, max_size=3)
        return st.one_of(
            st.fixed_dictionaries({"all": several}),
            st.fixed_dictionaries({"any": several}),
            st.fixed_dictionaries({"not": parts}),
        )

    return st.recursive(comparisons(), combined, max_leaves=4)


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "size": draw(
            st.sampled_from(
                [
                    {"equity_share": "1"},
                    {"equity_share": "0.5"},
                    {"equity_share": "0.9"},
                    {"equity_share": "0.25"},
                    {"quote": "0.01"},
                    {"quote": "50"},
                    {"quantity": "0.001"},
                    {"quantity": "1"},
                ]
            )
        )
    }
    if draw(st.integers(0, 3)) == 3:
        entry["every"] = draw(st.integers(1, 5))
    else:
        entry["when"] = draw(conditions())
    if draw(st.booleans()):
        entry["add"] = draw(st.booleans())
    for guard in ("stop_loss", "take_profit"):
        if draw(st.booleans()):
            entry[guard] = {"percent": draw(st.sampled_from(["0.5", "1", "2.25"]))}
    return entry


@st.composite
def two_sided_cards(draw: st.DrawFn) -> dict[str, Any]:
    """Return a card some of whose entries are short, and some of whose exits are of one side.

    One in three is in the market both ways, and reverses its position. None names a timeframe.
    """
    card = draw(cards())
    card.pop("timeframe", None)
    if draw(st.integers(0, 2)) == 2:
        up, entry = draw(conditions()), card["entries"][0]
        for every in ("every", "when"):
            entry.pop(every, None)
        down = {"not": up}
        sides = (("long", up, down), ("short", down, up))
        card["entries"] = [{**entry, "when": opens, "side": side} for side, opens, _ in sides]
        card["exits"] = [{"when": closes, "side": side} for side, _, closes in sides]
        return card
    for entry in card["entries"]:
        entry["side"] = draw(st.sampled_from(["short", "long"]))
    for rule in card["exits"]:
        if draw(st.booleans()):
            rule["side"] = draw(st.sampled_from(["long", "short"]))
    return card


@st.composite
def cards(draw: st.DrawFn) -> dict[str, Any]:
    card: dict[str, Any] = {
        "indicators": INDICATORS,
        "entries": draw(st.lists(entries(), min_size=1, max_size=2)),
        "exits": [{"when": when} for when in draw(st.lists(conditions(), max_size=2))],
    }
    timeframe = draw(st.sampled_from([None, None, None, None, "1m", "5m", "15m", "1h"]))
    return card if timeframe is None else {**card, "timeframe": timeframe}


def crossing(period: int) -> dict[str, Any]:
    """Return a card that buys where the close crosses above its average, and sells where below."""

    def crosses(op: str) -> dict[str, str]:
        return {"left": "close", "op": op, "right": "average"}

    return {
        "indicators": {"average": {"kind": "sma", "period": period}},
        "entries": [{"when": crosses("crosses_above"), "size": {"equity_share": 0.5}}],
        "exits": [{"when": crosses("crosses_below")}],
    }
