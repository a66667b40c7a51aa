"""Compiling strategies: the same content has the same id, and refusals name the place."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.clock import DAY, HOUR, MINUTE
from candlestep.sandbox.strategies import TEMPLATES, compile_strategy
from tests.support.cards import cards
from tests.support.runs import FEWER

ABOVE = {"left": "close", "op": ">", "right": "open"}
ENTRY = {"when": ABOVE, "size": {"quote": 10}}
CARD: dict[str, Any] = {
    "timeframe": "1h",
    "symbols": ["BBB", "AAA"],
    "indicators": {"bands": {"kind": "bollinger", "period": 20}},
    "entries": [
        {
            "when": {"all": [ABOVE, {"left": "close", "op": "<", "right": "bands.lower"}]},
            "size": {"equity_share": 0.5},
            "stop_loss": {"percent": 2},
        }
    ],
    "exits": [{"when": {"not": {"left": {"of": "close", "ago": 2}, "op": ">=", "right": 30}}}],
}


def reordered(value: Any, data: st.DataObject) -> Any:
    """Return the same JSON with its keys reordered, and some numbers of another type."""
    match value:
        case dict():
            keys = data.draw(st.permutations(list(value)))
            return {key: reordered(value[key], data) for key in keys}
        case list():
            return [reordered(member, data) for member in value]
        case int() if not isinstance(value, bool):
            return data.draw(st.sampled_from([int, float, np.int64, np.float64]))(value)
        case float():
            return data.draw(st.sampled_from([float, np.float64]))(value)
    return value


@FEWER
@given(cards(), st.data())
def test_the_same_content_has_the_same_id_however_it_is_spelt(
    card: dict[str, Any], data: st.DataObject
) -> None:
    strategy = compile_strategy(card)
    again = compile_strategy(reordered(card, data))
    assert again.id == strategy.id
    assert again == strategy


@FEWER
@given(cards(), cards())
def test_other_content_has_another_id(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (compile_strategy(one).id == compile_strategy(other).id) == (
        compile_strategy(one).content == compile_strategy(other).content
    )


@pytest.mark.parametrize(
    "content",
    [
        CARD,
        {"template": "tpl_rsi", "timeframe": "5m"},
        {"source": "def on_candle(ctx): pass", "symbols": ["AAA"]},
        {"grid": {"lower": 1, "upper": "2", "levels": 3, "size": {"quote": 5}}},
    ],
)
def test_content_is_stored_as_json_and_compiled_again(content: dict[str, Any]) -> None:
    strategy = compile_strategy(content)
    again = compile_strategy(json.loads(json.dumps(strategy.content)))
    assert again == strategy
    assert len(strategy.id) == 32
    kinds = {"template": "template", "source": "source"}
    assert strategy.kind == next((kinds[key] for key in kinds if key in content), "card")


def test_numbers_defaults_and_names_that_mean_the_same() -> None:
    one = deepcopy(CARD)
    other = {
        **deepcopy(CARD),
        "timeframe": 3600,
        "symbols": ["AAA", "BBB", "AAA"],
        "indicators": {
            "bands": {"kind": "bollinger", "period": 20.0, "deviations": 2.0, "source": "close"}
        },
    }
    other["entries"][0]["size"] = {"equity_share": "0.50"}
    other["entries"][0]["add"] = False
    other["entries"][0]["take_profit"] = None
    assert compile_strategy(one).id == compile_strategy(other).id
    other["entries"][0]["size"] = {"equity_share": "0.51"}
    assert compile_strategy(one).id != compile_strategy(other).id


def test_a_template_is_known_by_all_its_parameters() -> None:
    defaults = compile_strategy({"template": "tpl_sma_cross"})
    spelt = {"fast": 10.0, "slow": "50", "equity_share": "0.950"}
    same = compile_strategy({"template": "tpl_sma_cross", "parameters": spelt})
    assert same.id == defaults.id
    other = compile_strategy({"template": "tpl_sma_cross", "parameters": {"fast": 11}})
    assert other.id != defaults.id
    assert compile_strategy({"template": "tpl_ema_cross"}).id != defaults.id


def test_ids_do_not_change_from_version_to_version() -> None:
    """Ids are stored: changing one would make old strategies new ones."""
    assert compile_strategy({"template": "tpl_dca"}).id == "91e73405978d00385fa348239f7faac4"
    assert compile_strategy(CARD).id == "23d72db10cc0268e764d71a0de072cd5"


def refused(content: object) -> dict[str, Any]:
    with pytest.raises(InvalidParameter) as refusal:
        compile_strategy(content)
    return refusal.value.details


def with_entry(**changes: Any) -> dict[str, Any]:
    return {"entries": [{**ENTRY, **changes}]}


def with_condition(condition: Any) -> dict[str, Any]:
    return {"entries": [ENTRY, {"when": condition, "size": {"quote": 1}}]}


def compared(left: Any, op: Any = ">", right: Any = 1) -> dict[str, Any]:
    return with_condition({"all": [ABOVE, {"left": left, "op": op, "right": right}]})


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (compared("clse"), "entries[1].when.all[1].left"),
        (compared("bands.upper"), "entries[1].when.all[1].left"),
        (compared({"of": "clse", "ago": 1}), "entries[1].when.all[1].left.of"),
        (compared({"of": "close", "ago": 0}), "entries[1].when.all[1].left.ago"),
        (compared({"of": "close", "ago": 10**9}), "entries[1].when.all[1].left.ago"),
        (compared({"of": "close"}), "entries[1].when.all[1].left.ago"),
        (compared({"of": "close", "ago": 1, "x": 1}), "entries[1].when.all[1].left.x"),
        (compared(math.nan), "entries[1].when.all[1].left"),
        (compared("close", "=>"), "entries[1].when.all[1].op"),
        (compared("close", ">", True), "entries[1].when.all[1].right"),
        (compared("close", ">", math.inf), "entries[1].when.all[1].right"),
        (compared("close", ">", 10**400), "entries[1].when.all[1].right"),
        (compared("close", ">", [1]), "entries[1].when.all[1].right"),
        (compared("close", ">", None), "entries[1].when.all[1]"),
        (compared("close", ">", "30"), "entries[1].when.all[1].right"),
        (with_condition({"all": []}), "entries[1].when"),
        (with_condition({"all": [ABOVE], "any": [ABOVE]}), "entries[1].when"),
        (with_condition({}), "entries[1].when"),
        (with_condition({"not": []}), "entries[1].when.not"),
        (with_condition({"nto": ABOVE}), "entries[1].when.nto"),
        (with_condition({**ABOVE, "not": ABOVE}), "entries[1].when"),
        (with_condition("close > open"), "entries[1].when"),
        (with_entry(when=None), "entries[0]"),
        (with_entry(every=5), "entries[0]"),
        (with_entry(when=None, every=0), "entries[0].every"),
        (with_entry(when=None, every=10**9), "entries[0].every"),
        (with_entry(when=None, every=1.5), "entries[0].every"),
        (with_entry(size=None), "entries[0].size"),
        (with_entry(size={}), "entries[0].size"),
        (with_entry(size={"quote": 1, "quantity": 1}), "entries[0].size"),
        (with_entry(size={"quote": 0}), "entries[0].size.quote"),
        (with_entry(size={"quote": -1}), "entries[0].size.quote"),
        (with_entry(size={"quote": "1e17"}), "entries[0].size.quote"),
        (with_entry(size={"quote": "nan"}), "entries[0].size.quote"),
        (with_entry(size={"quote": "1_000"}), "entries[0].size.quote"),
        (with_entry(size={"quote": True}), "entries[0].size.quote"),
        (with_entry(size={"equity_share": 1.01}), "entries[0].size.equity_share"),
        (with_entry(stop_loss={"percent": 100}), "entries[0].stop_loss.percent"),
        (with_entry(stop_loss={"percent": -1}), "entries[0].stop_loss.percent"),
        (with_entry(stop_loss={"price": 1}), "entries[0].stop_loss.price"),
        (with_entry(stop_loss=5), "entries[0].stop_loss"),
        (with_entry(take_profit={}), "entries[0].take_profit.percent"),
        (with_entry(take_proft={}), "entries[0].take_proft"),
        (with_entry(add=1), "entries[0].add"),
        ({"entries": []}, "entries"),
        ({}, "entries"),
        ({"entries": {}}, "entries"),
        ({"entries": [ENTRY] * 21}, "entries"),
        ({"entries": [ENTRY], "exits": [{"when": ABOVE}] * 21}, "exits"),
        ({"entries": [ENTRY], "exits": [{}]}, "exits[0].when"),
        ({"entries": [ENTRY], "timeframe": "7m"}, "timeframe"),
        ({"entries": [ENTRY], "timeframe": 60.5}, "timeframe"),
        ({"entries": [ENTRY], "symbols": []}, "symbols"),
        ({"entries": [ENTRY], "symbols": [1]}, "symbols[0]"),
        ({"entries": [ENTRY], "symbols": [f"S{k}" for k in range(101)]}, "symbols"),
        ({"entries": [ENTRY], "side": "short"}, "side"),
        ({"entries": [ENTRY], "indicators": {"a": {"kind": "x"}}}, "indicators.a.kind"),
        ({"entries": [ENTRY], "source": "x"}, "entries"),
        ({"template": "tpl_sma_cross", "source": "x"}, "source"),
        ({"template": "tpl_none"}, "template"),
        ({"template": 1}, "template"),
        ({"template": "tpl_sma_cross", "parameters": {"fst": 1}}, "parameters.fst"),
        ({"template": "tpl_sma_cross", "parameters": []}, "parameters"),
        ({"template": "tpl_sma_cross", "parameters": {"fast": 0}}, "parameters.fast"),
        ({"template": "tpl_sma_cross", "parameters": {"fast": 10**9}}, "parameters.fast"),
        ({"template": "tpl_sma_cross", "parameters": {"fast": 2.5}}, "parameters.fast"),
        ({"template": "tpl_sma_cross", "parameters": {"fast": math.nan}}, "parameters.fast"),
        ({"template": "tpl_sma_cross", "parameters": {"fast": "NaN"}}, "parameters.fast"),
        ({"template": "tpl_sma_cross", "parameters": {"fast": []}}, "parameters.fast"),
        ({"template": "tpl_sma_cross", "parameters": {"fast": 50}}, "parameters.fast"),
        ({"template": "tpl_macd", "parameters": {"fast": 30}}, "parameters.fast"),
        ({"template": "tpl_rsi", "parameters": {"oversold": 80}}, "parameters.oversold"),
        ({"template": "tpl_rsi", "parameters": {"stop_loss_pct": 100}}, "parameters.stop_loss_pct"),
        ({"template": "tpl_dca", "parameters": {"every": 0}}, "parameters.every"),
        ({"template": "tpl_grid"}, "parameters.lower_price"),
        (
            {"template": "tpl_grid", "parameters": {"lower_price": 2, "upper_price": 2}},
            "parameters.lower_price",
        ),
        ({"source": 5}, "source"),
        ({"source": "x", "parameters": {}}, "parameters"),
        (
            {"grid": {"lower": 2, "upper": 1, "levels": 3, "size": {"quote": 5}}},
            "grid.lower",
        ),
        ({"grid": {"lower": 1, "upper": 2, "levels": 1, "size": {"quote": 5}}}, "grid.levels"),
        ({"grid": {"lower": 1, "upper": 2, "levels": 10**6, "size": {"quote": 5}}}, "grid.levels"),
        ({"grid": {"lower": 1, "upper": 2, "levels": 3}}, "grid.size"),
        (
            {
                "grid": {"lower": 1, "upper": 2, "levels": 3, "size": {"quote": 5}},
                "entries": [ENTRY],
            },
            "grid",
        ),
        ([], "strategy"),
        (None, "strategy"),
        ("x", "strategy"),
    ],
)
def test_what_is_refused_names_the_place(content: object, field: str) -> None:
    assert refused(content)["field"] == field


def nested(depth: int) -> dict[str, Any]:
    condition: dict[str, Any] = ABOVE
    for _ in range(depth):
        condition = {"not": condition}
    return with_condition(condition)


def test_hostile_content_is_refused_quickly() -> None:
    assert refused(nested(100))["field"].startswith("entries[1].when.not.not")
    assert refused(nested(100_000))["field"].startswith("entries[1].when.not.not")
    compile_strategy(nested(20))
    wide = with_condition({"any": [ABOVE] * 250})
    assert refused(wide)["field"].startswith("entries[1].when.any[")
    assert refused(with_condition({"any": [ABOVE] * 1_000_000}))
    assert refused({"entries": [ENTRY], "x" * 1_000_000: 1})
    assert refused({"template": "x" * 1_000_000})["field"] == "template"
    assert refused({"entries": [ENTRY], "symbols": ["x" * 1_000_000]})
    assert refused({"entries": [ENTRY], 5: 1})["field"] == ""
    circle: dict[str, Any] = {}
    circle["not"] = circle
    assert refused(with_condition(circle))
    assert refused({"entries": [ENTRY], "symbols": {"AAA"}})["field"] == "symbols"
    assert refused({"entries": [ENTRY], "symbols": [b"AAA"]})["field"] == "symbols[0]"
    for content in (compared("x" * 50_000), compared("\ud800")):
        with pytest.raises(InvalidParameter) as refusal:
            compile_strategy(content)
        assert len(refusal.value.message) < 500


def test_every_template_has_a_schema_that_says_what_it_takes() -> None:
    for template in TEMPLATES.values():
        schema = json.loads(json.dumps(template.schema()))
        assert schema["additionalProperties"] is False
        assert template.name
        assert template.description
        numbers = dict(schema["properties"])
        assert numbers.pop("direction")["default"] == "long"
        for parameter in numbers.values():
            assert parameter["description"]
            assert parameter["minimum"] < parameter["maximum"]
        for bound in ("minimum", "maximum"):
            for name, parameter in numbers.items():
                parameters = {"lower_price": 1, "upper_price": 2} | {name: parameter[bound]}
                parameters = {k: v for k, v in parameters.items() if k in schema["properties"]}
                try:
                    compile_strategy({"template": template.id, "parameters": parameters})
                except InvalidParameter as error:
                    assert "less than" in error.message  # noqa: PT017
    assert list(TEMPLATES) == [
        "tpl_buy_and_hold",
        "tpl_sma_cross",
        "tpl_ema_cross",
        "tpl_rsi",
        "tpl_bollinger",
        "tpl_breakout",
        "tpl_macd",
        "tpl_dca",
        "tpl_grid",
    ]
    assert TEMPLATES["tpl_grid"].schema()["required"] == ["lower_price", "upper_price"]


def test_a_strategy_wants_as_much_history_as_its_indicators() -> None:
    """Candles are of its own timeframe, or else of the session's interval."""
    cross = {"template": "tpl_sma_cross", "parameters": {"fast": 20, "slow": 400}}
    assert compile_strategy(cross).history(MINUTE) == 400 * MINUTE
    assert compile_strategy(cross | {"timeframe": "1d"}).history(MINUTE) == 400 * DAY
    assert compile_strategy({"template": "tpl_dca"}).history(HOUR) == 250 * HOUR
    program = {"source": "def on_candle(ctx): pass", "timeframe": "4h"}
    assert compile_strategy(program).history(MINUTE) == 1000 * 4 * HOUR
