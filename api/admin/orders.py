"""The operation that places a file of orders in a new session."""

from pathlib import Path
from typing import Any

import msgspec

from candlestep.api.admin.operation import OpenHome, Operation, Report, progress_of
from candlestep.api.replay.bounds import require_sequence_bounds
from candlestep.api.replay.local_target import load_market
from candlestep.api.replay.order_file import FileOrder, read_orders
from candlestep.api.replay.order_sequence import (
    SequenceResults,
    place_orders,
    sequence_start,
    symbols_of,
)
from candlestep.api.settings import Settings
from candlestep.data.imports.storing.changes import latest_import
from candlestep.data.journal.recording import write_recording
from candlestep.data.market.catalogue import Catalogue
from candlestep.data.records.instruments import instruments_to_copy
from candlestep.data.symbols import DEFAULT_EXCHANGE, normalise_exchange
from candlestep.sandbox import parse_time


class PlaceOrders(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of orders, the session to place them in, and the files to write, by absolute path."""

    path: str
    start: str
    """ISO 8601, as ``end``."""
    end: str
    starting_balance: str
    recording: str
    results: str
    columns: dict[str, str] = {}
    """The name in the file of each field that is called otherwise there."""
    exchange: str = DEFAULT_EXCHANGE

    @property
    def period(self) -> tuple[int, int]:
        """The start and the end, in milliseconds."""
        return parse_time(self.start, "--from"), parse_time(self.end, "--to")


def _check(request: PlaceOrders, bounds: Settings, report: Report) -> None:
    orders = _read(request, report)
    require_sequence_bounds(len(symbols_of(orders)), request.period, bounds)


def _read(request: PlaceOrders, report: Report) -> list[FileOrder]:
    path = Path(request.path)
    progress = progress_of(path.name, "orders", report)
    return read_orders(path, request.columns, lambda: progress(0, 0))


def _place(home: OpenHome, request: PlaceOrders, report: Report) -> SequenceResults:
    path = Path(request.path)
    orders = _read(request, report)
    exchange = normalise_exchange(request.exchange)
    start = sequence_start(
        orders,
        Catalogue(home.store).series(),
        request.period,
        starting_balance=request.starting_balance,
        exchange=exchange,
        instruments=instruments_to_copy(
            home.store, exchange, symbols_of(orders), request.period[0]
        ),
    )
    start = msgspec.structs.replace(start, import_number=latest_import(home.store))
    progress = progress_of(path.name, "orders", report)
    recorded = load_market(home.store, home.load_parts, start)
    placed = place_orders(path.name, orders, start, recorded, progress)
    write_recording(Path(request.recording), placed.recording)
    results = msgspec.json.format(msgspec.json.encode(placed.results)) + b"\n"
    write_recording(Path(request.results), results)
    return placed.results


PLACE = Operation(
    "/admin/orders", "Place a file of orders", PlaceOrders, SequenceResults, _place, _check
)

OPERATIONS: tuple[Operation[Any, Any], ...] = (PLACE,)
