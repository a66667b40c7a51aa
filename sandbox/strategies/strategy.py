"""A strategy in any of its three forms: checked, with an id derived from its content."""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from candlestep.sandbox.clock import parse_interval
from candlestep.sandbox.config import MarketType
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.indicators.indicators import history_of
from candlestep.sandbox.strategies.card import (
    SPOT_HAS_NO_SHORTS,
    ParsedCard,
    parse_card,
    parse_scope,
)
from candlestep.sandbox.strategies.json_input import convert, normalise_json
from candlestep.sandbox.strategies.program import Program, parse_program
from candlestep.sandbox.strategies.templates import expand

_ID_DIGITS = 32
_LEAST_HISTORY = 250
PROGRAM_HISTORY = 1000
"""Candles of history for a program, whose indicators are known only when it runs."""

StrategyKind = Literal["card", "template", "source"]


class Strategy(msgspec.Struct, frozen=True):
    """A strategy for ``run``. Two are equal if they mean the same, however they are spelt."""

    id: str
    """32 hexadecimal digits, derived from the content alone."""
    kind: StrategyKind
    content: dict[str, Any]
    """The strategy as written, with defaults filled in and numbers normalised. Stored as JSON, it
    compiles to the same strategy again."""
    timeframe: str | None
    """Interval of the candles it looks at; the session's if None."""
    symbols: tuple[str, ...] | None
    """Symbols it trades; every symbol of the market if None."""
    body: ParsedCard | Program

    def history(self, interval: int) -> int:
        """Return how much history the indicators need to settle before a session, in ms.

        ``interval`` is the session's candle interval. A program gets ``PROGRAM_HISTORY`` candles
        of its timeframe; any other strategy gets at least 250.
        """
        timeframe = interval if self.timeframe is None else parse_interval(self.timeframe)
        if isinstance(self.body, Program):
            return PROGRAM_HISTORY * timeframe
        return max(_LEAST_HISTORY, history_of(self.body.indicators)) * timeframe

    def require_market_type(self, market_type: MarketType) -> None:
        """Raise ``InvalidParameter`` if the strategy sells short and the market is of spot pairs.

        A program is not known to until it runs.
        """
        if market_type != "spot" or isinstance(self.body, Program):
            return
        field = self.body.short_side
        if field is None:
            return
        if self.kind == "template":
            field = "parameters.direction"
        raise InvalidParameter(field, f"{SPOT_HAS_NO_SHORTS}, or be long")


class _TemplateContent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    template: str
    parameters: dict[str, Any] = {}
    timeframe: str | int | None = None
    symbols: tuple[str, ...] | None = None


class _SourceContent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: str
    timeframe: str | int | None = None
    symbols: tuple[str, ...] | None = None


def compile_strategy(content: object) -> Strategy:
    """Compile a strategy from ``content``, which has one of three forms:

    - a card: ``{"indicators": …, "entries": […], "exits": […]}`` (see ``Card``);
    - a template: ``{"template": "tpl_sma_cross", "parameters": {"fast": 10}}``;
    - a program: ``{"source": "def on_candle(ctx): …"}``, which is parsed, not evaluated.

    All take ``timeframe`` and ``symbols``. Raises ``InvalidParameter`` naming the place, such as
    ``entries[0].when.all[1].left``, and for a program with ``line`` and ``column`` in its details.
    """
    if not isinstance(content, Mapping):
        raise InvalidParameter(
            "strategy", "must be an object: a card, or one with a template, or one with a source"
        )
    checked = normalise_json(content, "")
    if "template" in checked:
        return _from_template(convert(checked, _TemplateContent, ""))
    if "source" in checked:
        return _from_source(convert(checked, _SourceContent, ""))
    card = parse_card(checked)
    return _create("card", card.content(), card.timeframe, card.symbols, card)


def _from_template(written: _TemplateContent) -> Strategy:
    timeframe, symbols = parse_scope(written.timeframe, written.symbols)
    parameters, card = expand(written.template, written.parameters)
    content = {"template": written.template, "parameters": parameters}
    return _create("template", content, timeframe, symbols, parse_card(normalise_json(card, "")))


def _from_source(written: _SourceContent) -> Strategy:
    timeframe, symbols = parse_scope(written.timeframe, written.symbols)
    program = parse_program(written.source)
    return _create("source", {"source": written.source}, timeframe, symbols, program)


def _create(
    kind: StrategyKind,
    content: dict[str, Any],
    timeframe: str | None,
    symbols: tuple[str, ...] | None,
    body: ParsedCard | Program,
) -> Strategy:
    content = dict(content)
    if timeframe is not None:
        content["timeframe"] = timeframe
    if symbols is not None:
        content["symbols"] = list(symbols)
    content = normalise_json(content, "")
    written = msgspec.json.encode(content, order="sorted")
    digest = hashlib.sha256(written).hexdigest()[:_ID_DIGITS]
    return Strategy(digest, kind, content, timeframe, symbols, body)
