"""Trials: an account's runs of the same strategy on the same dataset, with any parameters.

The deflated Sharpe ratio of a run depends on their number.
"""

import hashlib
import re
from typing import Any

import msgspec

from candlestep.sandbox.strategies import Strategy

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)


def strategy_family(strategy: Strategy) -> str:
    """Return 32 hexadecimal digits, the same for strategies that differ only in their numbers.

    They are a digest of a template's name, of a card without its numbers, or of a whole program,
    because numbers in a program may mean anything.
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
