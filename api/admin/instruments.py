"""Operations on the instruments of a store: list, show, change."""

from typing import Any

import msgspec

from candlestep.api.admin.operation import EmptyInput, OpenHome, Operation, Report
from candlestep.data.market.loading import INSTRUMENTS_PATH
from candlestep.data.records import instruments
from candlestep.data.symbols import DEFAULT_EXCHANGE


class InstrumentList(msgspec.Struct, frozen=True):
    """Every instrument, by exchange and symbol."""

    instruments: list[instruments.ListedInstrument]


class ShowInstrument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The instrument to show."""

    symbol: str
    exchange: str = DEFAULT_EXCHANGE


class ChangeInstrument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An instrument, and what to change of it."""

    symbol: str
    exchange: str = DEFAULT_EXCHANGE
    volume_usable: bool | None = None
    filters: dict[str, str | None] = {}
    """The filters to change; None removes one."""


def _list(home: OpenHome, request: EmptyInput, report: Report) -> InstrumentList:
    return InstrumentList(instruments.stored_instruments(home.store))


def _show(home: OpenHome, request: ShowInstrument, report: Report) -> instruments.ListedInstrument:
    return instruments.get_instrument(home.store, request.exchange, request.symbol)


def _change(
    home: OpenHome, request: ChangeInstrument, report: Report
) -> instruments.ListedInstrument:
    change = instruments.InstrumentChange(request.volume_usable, request.filters)
    return instruments.change_instrument(home.store, request.exchange, request.symbol, change)


LIST = Operation(INSTRUMENTS_PATH, "List the instruments", EmptyInput, InstrumentList, _list)
SHOW = Operation(
    "/admin/instruments/show",
    "Show an instrument",
    ShowInstrument,
    instruments.ListedInstrument,
    _show,
)
CHANGE = Operation(
    "/admin/instruments/change",
    "Change an instrument",
    ChangeInstrument,
    instruments.ListedInstrument,
    _change,
)

OPERATIONS: tuple[Operation[Any, Any], ...] = (LIST, SHOW, CHANGE)
