"""Trials: an account's runs of the same strategy on the same dataset, with whatever numbers.

The deflated Sharpe ratio of a run depends on how many of them there were.
"""

import hashlib
import re
from typing import Any

import msgspec

from candlestep.sandbox.strategies import Strategy

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)


def strategy_family(strategy: Strategy) -> str:
    """Return 32 digits that are the same for strategies that differ in their numbers alone.

    They stand for the name of a template, for a card without its numbers, and for the whole of a
    program, because it is not known what that does with a number.
    """
    content: Any = strategy.content
    if strategy.kind == "template":
        content = {"template": content["template"]}
    if strategy.kind == "card":
        content = _without_numbers(content)
    written = msgspec.json.encode(content, order="sorted")
    return hashlib.sha256(written).hexdigest()[:32]


def _without_numbers(value: Any) -> Any:
    match value:
        case bool():
            return value
        case int() | float():
            return 0
        case str() if _NUMBER.fullmatch(value):
            return 0
        case list():
            return [_without_numbers(item) for item in value]
        case dict():
            return {name: _without_numbers(item) for name, item in value.items()}
    return value
