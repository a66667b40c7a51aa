"""Margin tiers of a file: by notional, the maintenance margin rate and the highest leverage.

They are read from JSON as ccxt's ``fetch_leverage_tiers`` and Binance's leverage brackets have it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from candlestep.data.errors import BadRow, BadRows, UnreadableFile
from candlestep.data.imports.evidence import (
    evidence_of_name,
    evidence_of_text,
    pair_of,
    spot_symbol,
)
from candlestep.data.imports.reading import ImportOptions
from candlestep.data.imports.series import Taken
from candlestep.data.symbols import Pair, normalise_symbol
from candlestep.sandbox import InvalidParameter, InvalidSymbol, MarginTiers
from candlestep.sandbox.clock import DAY, format_time
from candlestep.sandbox.money import ZERO, format_decimal, parse_number

_FLOORS = ("minNotional", "notionalFloor", "floor")
_RATES = ("maintenanceMarginRate", "maintMarginRatio", "mmr")
_LEVERAGES = ("maxLeverage", "initialLeverage", "max_leverage")
_CUMULATED = ("cum", "maintAmt")
_CAPS = ("maxNotional", "notionalCap")
_DAY_IN_NAME = re.compile(r"(?<!\d)(20\d\d)-?(0[1-9]|1[0-2])(?:-?([0-2]\d|3[01]))?(?!\d)")
_PLACE = re.compile(r"tier\[(\d+)\]")


@dataclass(frozen=True)
class ReadTiers:
    """The margin tiers of one perpetual in a file, ready to be imported."""

    pair: Pair
    start: int
    """The time from which they are in force, in milliseconds."""
    tiers: MarginTiers
    taken: Taken


@dataclass(frozen=True)
class TierFile:
    """The records of margin tiers in a file, by symbol, unchecked."""

    name: str
    records: dict[str | None, list[Any]]


def tiers_in(content: Any) -> dict[str | None, list[Any]] | None:
    """Return the records of a JSON document by symbol; None if it has no margin tiers."""
    if isinstance(content, dict) and "brackets" in content:
        content = [content]
    if isinstance(content, list) and content and isinstance(content[0], dict):
        if all(isinstance(one, dict) and isinstance(one.get("brackets"), list) for one in content):
            return {str(one.get("symbol")): one["brackets"] for one in content}
        return {None: content} if _is_tier(content[0]) else None
    if isinstance(content, dict) and content:
        lists = [one for one in content.values() if isinstance(one, list) and one]
        if len(lists) == len(content) and all(_is_tier(one[0]) for one in lists):
            return {str(symbol): records for symbol, records in content.items()}
    return None


def tiers_of(file: TierFile, options: ImportOptions) -> list[ReadTiers]:
    """Return the margin tiers of a file, those of each symbol, or only of the one that is given.

    Symbols that cannot be imported are left out. Raises ``UnreadableFile`` without a day from which
    they are in force, and ``BadRows`` if a tier contradicts another.
    """
    start = _start(file.name, options.day)
    chosen = _chosen(file, options.symbol)
    found, left_out = [], []
    for symbol, records in chosen.items():
        try:
            if symbol is not None and evidence_of_text(symbol).refused is not None:
                left_out.append(symbol)
                continue
        except InvalidSymbol:
            left_out.append(symbol or "")
            continue
        pair = pair_of(file.name, options.symbol, symbol, len(file.records) > 1, is_perp=True)
        found.append((pair, _tiers(file.name, pair.symbol, records)))
    if not found:
        raise UnreadableFile(file.name, "it has no margin tiers of perpetuals that can be imported")
    notes = []
    if left_out:
        notes.append(f"left out {len(left_out)} other contracts, such as {left_out[0][:40]}")
    return [
        ReadTiers(pair, start, tiers, _taken(pair, start, tiers, notes)) for pair, tiers in found
    ]


def _taken(pair: Pair, start: int, tiers: MarginTiers, notes: Sequence[str]) -> Taken:
    return Taken(
        f"in force from {format_time(start)}",
        f"{len(tiers.rows)} tiers, up to {format_decimal(tiers.max_leverage)}x",
        "none",
        f"{pair.symbol} (perpetual of {pair.base}, margined in {pair.quote})",
        "none",
        tuple(notes),
        "tiers",
    )


def _is_tier(record: Any) -> bool:
    return (
        isinstance(record, dict)
        and _first(record, _RATES) is not None
        and _first(record, _LEVERAGES) is not None
    )


def _start(file: str, day: date | None) -> int:
    """Return the time from which tiers are in force: of the day that is given, or of the name's."""
    if day is None:
        found = _DAY_IN_NAME.search(file)
        if found is None:
            raise UnreadableFile(
                file,
                "neither its name nor its rows tell the day from which its margin tiers are in"
                " force; give it with --date",
            )
        try:
            day = date(int(found[1]), int(found[2]), int(found[3] or 1))
        except ValueError:
            raise UnreadableFile(
                file, f"its name says {found[0]}, which is no day; give it with --date"
            ) from None
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return int(midnight.timestamp()) // (DAY // 1000) * DAY


def _chosen(file: TierFile, symbol: str | None) -> Mapping[str | None, list[Any]]:
    """Return the records of a symbol, or of all if none is given."""
    if symbol is None:
        named = evidence_of_name(file.name).symbol
        if named is None or len(file.records) == 1:
            return file.records
        symbol = named
    if len(file.records) == 1:
        return file.records
    wanted = normalise_symbol(spot_symbol(symbol))
    chosen = {name: one for name, one in file.records.items() if _spot(name) == wanted}
    if not chosen:
        raise UnreadableFile(file.name, f"it has no margin tiers of {wanted[:40]}")
    return chosen


def _spot(name: str | None) -> str | None:
    try:
        return None if name is None else evidence_of_text(name).symbol
    except InvalidSymbol:
        return None


def _tiers(file: str, symbol: str, records: Sequence[Any]) -> MarginTiers:
    """Return checked tiers, sorted by their floors; a missing ``cum`` is computed.

    Raises ``BadRows``, which counts the tiers of the symbol from 1.
    """
    order = sorted(range(len(records)), key=lambda place: _floor(records[place]))
    numbers = [place + 1 for place in order]
    in_order = [records[place] for place in order]
    try:
        tiers = MarginTiers.parse([_as_tier(record) for record in in_order], "tier")
    except InvalidParameter as error:
        place = _PLACE.match(error.details["field"])
        number = numbers[int(place[1])] if place else 1
        reason = _PLACE.sub("", error.message).lstrip(".: ")
        raise BadRows(file, [BadRow(number, f"{symbol}: {reason}")], 1, "tier") from None
    for number, record, after in zip(numbers, in_order, tiers.rows[1:], strict=False):
        cap = _first(record, _CAPS)
        if cap is not None and parse_number("cap", cap) != after.floor:
            reason = f"{symbol}: it ends at {str(cap)[:40]}, and the next begins at {format_decimal(after.floor)}"
            raise BadRows(file, [BadRow(number, reason)], 1, "tier")
    return tiers


def _floor(record: Any) -> Decimal:
    """Return the floor of a record to sort by it; what has none comes first."""
    try:
        return parse_number("floor", _first(record, _FLOORS))
    except (InvalidParameter, AttributeError):
        return ZERO


def _as_tier(record: Any) -> object:
    """Return a record in the names of ``MarginTiers``."""
    if not isinstance(record, dict):
        return record
    info = record.get("info")
    cum = _first(record, _CUMULATED)
    if cum is None and isinstance(info, dict):
        # ccxt keeps there what the exchange said.
        cum = _first(info, _CUMULATED)
    return {
        "floor": _first(record, _FLOORS),
        "mmr": _first(record, _RATES),
        "max_leverage": _first(record, _LEVERAGES),
        "cum": cum,
    }


def _first(record: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)
