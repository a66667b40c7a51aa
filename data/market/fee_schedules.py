"""Fee schedules of venues, from the file that comes with the product and one in the home."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from candlestep.data.errors import NOT_JSON
from candlestep.data.symbols import normalise_exchange, normalise_symbol
from candlestep.sandbox import InvalidParameter, SandboxError
from candlestep.sandbox.config import MarketType

FILE_NAME = "fee_schedules.json"
"""The file next to this module, which describes its format, and the one in a home directory."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    start: str = msgspec.field(name="from")
    maker: str
    taker: str
    until: str | None = None
    symbols: list[str] | None = None
    source: str = ""


class _Venue(msgspec.Struct, forbid_unknown_fields=True):
    entries: list[_Entry]
    futures: list[_Entry] = []
    about: str = ""

    def of(self, market_type: MarketType) -> list[_Entry]:
        return self.entries if market_type == "spot" else self.futures


class _Schedules(msgspec.Struct, forbid_unknown_fields=True):
    venues: dict[str, _Venue]
    about: str | list[str] = ""


_NAMES: dict[MarketType, str] = {
    "spot": "fee schedule",
    "perp": "fee schedule for perpetuals",
}

Entries = list[dict[str, Any]]
"""A venue's schedule, for ``SessionConfig(fee_schedule=...)``."""


def fee_schedule(exchange: str, market_type: MarketType, home: Path) -> Entries:
    """Return the fees that ``exchange`` charged for spot trades or perpetuals, and when.

    A venue in the file of ``home`` replaces the one that comes with the product, if it has fees
    for that type of market. Both files are small and read by each call, so a change takes effect
    at once. Raises ``InvalidParameter`` for a venue without such fees, naming those that have some,
    and for a file of ``home`` that cannot be read.
    """
    shipped = (files("candlestep.data.market") / FILE_NAME).read_bytes()
    venues = _venues(shipped, market_type)
    own = home / FILE_NAME
    try:
        if own.exists():
            venues |= _venues(own.read_bytes(), market_type)
    except (OSError, SandboxError, *NOT_JSON) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidParameter(
            "fee_model", f"{FILE_NAME} in the home directory cannot be used: {reason}"
        ) from None
    if exchange not in venues:
        known = sorted(venues)
        raise InvalidParameter(
            "fee_model",
            f"match_exchange: there is no {_NAMES[market_type]} of {exchange!r}; the known venues"
            f" are {', '.join(known)}. Add it to {FILE_NAME} in the home directory, or choose another"
            " fee_model",
            venues=known,
        )
    return venues[exchange]


def _venues(content: bytes, market_type: MarketType) -> dict[str, Entries]:
    schedules = msgspec.json.decode(content, type=_Schedules)
    return {
        normalise_exchange(name): entries
        for name, venue in schedules.venues.items()
        if (entries := [_as_argument(entry) for entry in venue.of(market_type)])
    }


def _as_argument(entry: _Entry) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(entry)
    if entry.symbols is not None:
        fields["symbols"] = [normalise_symbol(symbol) for symbol in entry.symbols]
    return fields
