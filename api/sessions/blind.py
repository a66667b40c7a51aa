"""Blind sessions: the market of a stored session in disguise, and what was real of it.

The record, the journal and every answer of a blind session have the names and the times that its
agent sees. ``HiddenMarket``, which is stored next to them, has the real ones: it is read here, where
candles are loaded, and in what its owner may read after the end.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

import msgspec

from candlestep.api.schemas.sessions import BlindRequest
from candlestep.data.market.candle_cache import LOOK_BACK, CandleRequest
from candlestep.data.records.sessions import NewSession, SessionRecord
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import InvalidParameter, Market, format_time, parse_time
from candlestep.sandbox.clock import DAY
from candlestep.sandbox.market.blind.days import DrawnDays
from candlestep.sandbox.market.blind.disguise import (
    BLIND_EXCHANGE,
    LARGEST_SEED,
    BlindSettings,
    Disguise,
    Prices,
    Variant,
    pair_of,
)
from candlestep.sandbox.market.blind.rounding import PRICE_DIGITS
from candlestep.sandbox.market.blind.scale import Scale
from candlestep.sandbox.market.spans import Span, intersect_spans
from candlestep.sandbox.money import AMOUNT_UNIT, decimal_of, format_decimal

_DIVISION = Context(prec=30)
BY_SYMBOL = ("leverage", "margin_tiers")
"""Settings that may have a value for each symbol."""


class HiddenMarket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The real market of a blind session, and the settings of its disguise."""

    seed: int
    names: bool
    times: bool
    prices: Prices
    variant: Variant
    exchange: str
    pairs: list[str]
    """The real symbols, in the order of the session's."""
    start_time: str

    @property
    def settings(self) -> BlindSettings:
        """The settings of the disguise."""
        return BlindSettings(self.seed, self.names, self.times, self.prices, self.variant)

    @property
    def start(self) -> int:
        """The real start, in ms."""
        return parse_time(self.start_time)

    def disguise(self, pairs: Sequence[str], start: int) -> Disguise:
        """Return the disguise, given the pairs and the start of the session as it shows them."""
        names = dict(zip(self.pairs, pairs, strict=True))
        return Disguise(self.settings, names, start - self.start)


def blind_settings(request: bool | BlindRequest) -> BlindSettings:
    """Return the settings that a request asks for, with a seed drawn if it has none."""
    wanted = BlindRequest() if isinstance(request, bool) else request
    seed = secrets.randbelow(LARGEST_SEED + 1) if wanted.seed is None else wanted.seed
    return BlindSettings.parse(seed, wanted.names, wanted.times, wanted.prices, wanted.variant)


def hidden_of(stored: Mapping[str, Any] | None) -> HiddenMarket | None:
    """Return the hidden market of a session as it is stored; None for one that is not blind."""
    if stored is None:
        return None
    try:
        return msgspec.convert(stored, HiddenMarket)
    except msgspec.ValidationError as error:
        raise InvalidParameter("blind", str(error)) from None


def hide(plan: NewSession, settings: BlindSettings) -> NewSession:
    """Return the plan of a session under names and times that a disguise draws."""
    first = _first_day(plan.start_time, LOOK_BACK)
    disguise = Disguise.draw(settings, plan.pairs, (first, plan.end_time))
    # In the order of the drawn numbers: that of the alphabet would tell the real ones.
    pairs = sorted(plan.pairs, key=lambda pair: (len(disguise.names[pair]), disguise.names[pair]))
    if not settings.names:
        pairs = list(plan.pairs)
    hidden = HiddenMarket(
        **msgspec.structs.asdict(settings),
        exchange=plan.exchange,
        pairs=pairs,
        start_time=format_time(plan.start_time),
    )
    return msgspec.structs.replace(
        plan,
        exchange=BLIND_EXCHANGE if settings.names else plan.exchange,
        pairs=[disguise.names[pair] for pair in pairs],
        start_time=plan.start_time + disguise.shift,
        end_time=plan.end_time + disguise.shift,
        config=_hidden_config(plan.config, disguise, (plan.start_time, plan.end_time)),
        blind=msgspec.to_builtins(hidden),
    )


def require_drawable(plan: NewSession, covered: Mapping[str, Sequence[Span]]) -> None:
    """Raise ``InvalidParameter`` if the days of a blind session cannot be drawn from its candles.

    ``covered`` has the real spans of its pairs.
    """
    hidden = hidden_of(plan.blind)
    if hidden is not None:
        end = hidden.start + plan.end_time - plan.start_time
        request = CandleRequest(hidden.exchange, hidden.pairs, 0, hidden.start, end)
        hidden_spans(hidden, hidden.disguise(plan.pairs, plan.start_time), request, covered)


def candle_request(record: SessionRecord, import_number: int, look_back: int) -> CandleRequest:
    """Return the candles that a session can read, blind or not, under their real names."""
    hidden = hidden_of(record.blind)
    span = record.end_time - record.start_time
    if hidden is None:
        exchange, pairs, start = record.exchange, record.pairs, record.start_time
    else:
        exchange, pairs, start = hidden.exchange, hidden.pairs, hidden.start
    return CandleRequest(exchange, pairs, import_number, start, start + span, look_back)


def shown_market(
    market: Market | None, request: CandleRequest, disguise: Disguise
) -> Market | None:
    """Return the market as a blind session shows it: what it can read, in disguise."""
    part = None if market is None else readable_part(market, request)
    return None if part is None else part.disguised(disguise)


def readable_part(market: Market, request: CandleRequest) -> Market | None:
    """Return exactly the candles that a blind session may read, not in disguise."""
    return market.between(_first_day(request.start, request.look_back), request.end)


def hidden_instruments(
    instruments: Iterable[Mapping[str, Any]], disguise: Disguise, scales: Mapping[str, Scale]
) -> list[dict[str, Any]]:
    """Return the instruments of a session under its names, their filters on its scale of prices."""
    hidden = []
    for real in instruments:
        symbol = disguise.names[real["symbol"]]
        scale = scales.get(pair_of(real["symbol"]))
        filters = real["filters"] if scale is None else _hidden_filters(real["filters"], scale)
        names = {"symbol": symbol}
        if disguise.settings.names:
            names["base"] = pair_of(symbol).removesuffix(real["quote"])
        hidden.append({**real, **names, "filters": filters})
    return sorted(hidden, key=lambda instrument: instrument["symbol"])


def hidden_spans(
    hidden: HiddenMarket,
    disguise: Disguise,
    request: CandleRequest,
    covered: Mapping[str, Sequence[Span]],
) -> dict[str, Sequence[Span]]:
    """Return the spans that each pair covers as a blind session shows them, from the real ones."""
    readable = [(_first_day(request.start, request.look_back), request.end)]
    spans = {pair: intersect_spans(covered[pair], readable) for pair in hidden.pairs}
    known = [of_pair for of_pair in spans.values() if of_pair]
    if hidden.variant == "bootstrap" and known:
        first = min(of_pair[0][0] for of_pair in known)
        days = DrawnDays.draw(hidden.seed, (first, max(of_pair[-1][1] for of_pair in known)))
        spans = {pair: days.covered(of_pair) for pair, of_pair in spans.items()}
    return {
        disguise.names[pair]: [(a + disguise.shift, b + disguise.shift) for a, b in of_pair]
        for pair, of_pair in spans.items()
    }


def _first_day(start: int, look_back: int) -> int:
    """Return the day with which a blind session's candles begin.

    A month's first day, with which those of others begin, would tell its weekday.
    """
    return (start - look_back) // DAY * DAY


def _hidden_config(config: Mapping[str, Any], disguise: Disguise, span: Span) -> dict[str, Any]:
    """Return settings with their symbols renamed, their times shifted, and without sources."""
    hidden = dict(config)
    for name in BY_SYMBOL:
        by_symbol = hidden.get(name)
        if isinstance(by_symbol, Mapping):
            # Of other symbols nothing is kept: their names would tell the exchange.
            real = {_normalised(key): value for key, value in by_symbol.items()}
            hidden[name] = {disguise.names[key]: real[key] for key in real if key in disguise.names}
    if hidden.get("fee_schedule") is not None:
        entries = [_hidden_entry(entry, disguise, span) for entry in hidden["fee_schedule"]]
        hidden["fee_schedule"] = [entry for entry in entries if entry is not None]
    return hidden


def _normalised(name: str) -> str:
    """Return the normal spelling of a symbol; any other text unchanged."""
    try:
        return normalise_symbol(name)
    except InvalidParameter:
        return name


def _hidden_entry(
    entry: Mapping[str, Any], disguise: Disguise, span: Span
) -> dict[str, Any] | None:
    """Return an entry of a schedule of fees in disguise; None if it is of other symbols.

    It begins with the session, and ends in it or not at all: since when a venue has had its fees
    would tell which one it is, and how long ago.
    """
    start, end = span
    hidden = {name: entry[name] for name in ("maker", "taker")}
    hidden["from"] = format_time(max(parse_time(entry["from"]), start) + disguise.shift)
    until = entry.get("until")
    if until is not None and parse_time(until) <= end:
        hidden["until"] = format_time(parse_time(until) + disguise.shift)
    if entry.get("symbols") is not None:
        known = [disguise.names[name] for name in entry["symbols"] if name in disguise.names]
        if not known:
            return None
        hidden["symbols"] = sorted(known)
    return hidden


_FILTERS: Mapping[str, Callable[[Decimal, Decimal], Decimal]] = {
    "tick_size": _DIVISION.multiply,
    "step_size": _DIVISION.divide,
    "min_quantity": _DIVISION.divide,
}


def _hidden_filters(filters: Mapping[str, str], scale: Scale) -> dict[str, str]:
    """Return filters on another scale, as powers of ten: their digits would tell the factor.

    No tick is finer than the last digit of the first price: how many more there were would tell how
    high the real price is.
    """
    if scale.factor == 1:
        return dict(filters)
    shown = decimal_of(scale.first * float(scale.factor))
    last_digit = Decimal(1).scaleb(shown.adjusted() - PRICE_DIGITS + 1)
    finest = {} if scale.is_exact else {"tick_size": last_digit}
    hidden = dict(filters)
    for name, scaled in _FILTERS.items():
        if name in hidden:
            size = scaled(Decimal(hidden[name]), scale.factor)
            power = Decimal(1).scaleb(size.adjusted())
            hidden[name] = format_decimal(max(power, finest.get(name, AMOUNT_UNIT)))
    return hidden
