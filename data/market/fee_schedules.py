"""Fee schedules of venues, from the file that comes with the product and one in the home."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from candlestep.data.symbols import normalise_exchange, normalise_symbol
from candlestep.sandbox import InvalidParameter, SandboxError

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
    about: str = ""


class _Schedules(msgspec.Struct, forbid_unknown_fields=True):
    venues: dict[str, _Venue]
    about: str | list[str] = ""


Entries = list[dict[str, Any]]
"""A venue's schedule, for ``SessionConfig(fee_schedule=...)``."""


def fee_schedule(exchange: str, home: Path) -> Entries:
    """Return the fees that ``exchange`` charged for spot trades, and when.

    A venue in the file of ``home`` replaces the one that comes with the product. Both files are
    small and read by each call, so a change takes effect at once. Raises
    ``InvalidParameter`` for an unknown venue, naming the known ones, and for a file of ``home``
    that cannot be read.
    """
    venues = _venues((files("candlestep.data.market") / FILE_NAME).read_bytes())
    own = home / FILE_NAME
    try:
        if own.exists():
            venues |= _venues(own.read_bytes())
    except (OSError, SandboxError, msgspec.DecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidParameter(
            "fee_model", f"{FILE_NAME} in the home directory cannot be used: {reason}"
        ) from None
    if exchange not in venues:
        known = sorted(venues)
        raise InvalidParameter(
            "fee_model",
            f"match_exchange: there is no fee schedule of {exchange!r}; the known venues are"
            f" {', '.join(known)}. Add it to {FILE_NAME} in the home directory, or choose another"
            " fee_model",
            venues=known,
        )
    return venues[exchange]


def _venues(content: bytes) -> dict[str, Entries]:
    schedules = msgspec.json.decode(content, type=_Schedules)
    return {
        normalise_exchange(name): [_as_argument(entry) for entry in venue.entries]
        for name, venue in schedules.venues.items()
    }


def _as_argument(entry: _Entry) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(entry)
    if entry.symbols is not None:
        fields["symbols"] = [normalise_symbol(symbol) for symbol in entry.symbols]
    return fields
