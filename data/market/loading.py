"""The candles of a home or of a file in this process, as the sandbox takes them.

One process at a time may write to the store of a home. While a server runs on the home, it holds
the store; it then writes the candles into files that this process maps into its memory.
"""

from collections.abc import Collection, Sequence
from contextlib import closing, suppress
from datetime import date
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import structs

from candlestep.data.errors import NOT_JSON, StorageUnavailable
from candlestep.data.imports.contents import read_contents, read_series
from candlestep.data.imports.numbers import DecimalMark
from candlestep.data.imports.perpetual.funding import ReadFunding
from candlestep.data.imports.reading import ImportOptions
from candlestep.data.imports.storing.changes import latest_import
from candlestep.data.market.candle_cache import CandleCache, CandleRequest
from candlestep.data.market.catalogue import Catalogue, Series
from candlestep.data.market.mapped_candles import open_mapped
from candlestep.data.market.parts import Part, market_of
from candlestep.data.records.instruments import ListedInstrument, stored_instruments
from candlestep.data.store.database import FILE_NAME, Store
from candlestep.data.store.home import home_directory
from candlestep.data.store.server_file import TOKEN_HEADER, RunningServer, running_server
from candlestep.data.symbols import DEFAULT_EXCHANGE, normalise_exchange
from candlestep.sandbox import (
    Candles,
    FundingRates,
    Instrument,
    InvalidParameter,
    Market,
    NoPrice,
    SandboxError,
    SymbolNotFound,
    parse_time,
)
from candlestep.sandbox.clock import EARLIEST, LATEST
from candlestep.sandbox.config import Time
from candlestep.sandbox.market.symbols import normalise_symbol

MAP_PATH = "/admin/data/map"
"""The path under which a server maps candles for another process of its user."""

INSTRUMENTS_PATH = "/admin/instruments/list"
"""The path under which a server lists its instruments, in one line of JSON."""

_TRIES = 3
"""The number of times that a server is asked for files, which it may delete to make room."""
_ALIVE_SECONDS = 5.0
"""The longest time until a server answers that it is there."""
_LOAD_SECONDS = 300.0
"""The longest time until it answers that the candles are loaded."""
_NO_BUDGET = 2**62
_MOST_LISTED = 10


class WantedCandles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Candles of an exchange; None stands for all symbols, the first candle, the last one."""

    exchange: str
    symbols: list[str] | None = None
    start: int | None = None
    """Milliseconds."""
    end: int | None = None


class MappedFiles(msgspec.Struct, frozen=True):
    """The files of candles that a server has written, by absolute path, to be mapped at once."""

    files: list[str]


class _Instruments(msgspec.Struct, frozen=True):
    instruments: list[ListedInstrument]


class _InstrumentsLine(msgspec.Struct, frozen=True):
    result: _Instruments


def read_candles(
    path: str | Path,
    *,
    symbol: str | None = None,
    interval: str | int | None = None,
    no_volume: bool = False,
    time_format: str | None = None,
    day: date | None = None,
    decimal: DecimalMark | None = None,
    kind: Literal["candles", "mark"] = "candles",
    perp: bool = False,
) -> list[Candles]:
    """Return the candles of a file, read and checked as an import does, without importing them.

    The list has one ``Candles`` for each series of the file, so ``Market(read_candles(path))``
    is its market. Those of ``kind`` ``mark`` are an argument of it too. The options say what the
    file does not tell, as those of ``candlestep data import``. Raises ``UnreadableFile``,
    ``BadRows`` or ``InvalidSymbol``.
    """
    options = ImportOptions(
        symbol, interval, no_volume, time_format, day, decimal, kind=kind, is_perp=perp
    )
    if kind == "candles":
        # What a name or a header says is then held against what is read, and refused alike.
        options = structs.replace(options, kind=None)
    return [
        Candles(
            symbol=series.pair.symbol,
            interval=series.interval // 1000,
            open_time=series.candles.open_time,
            open=series.candles.open,
            high=series.candles.high,
            low=series.candles.low,
            close=series.candles.close,
            volume=series.candles.volume,
        )
        for series in read_series(Path(path).expanduser(), options, kind=kind)
    ]


def read_funding(
    path: str | Path, *, symbol: str | None = None, interval: str | int | None = None
) -> list[FundingRates]:
    """Return the funding rates of a file, read and checked as an import does, one for each symbol.

    They are an argument of ``Market``. ``interval`` is that of its settlements, for a file that does
    not tell it. Raises ``UnreadableFile``, ``BadRows`` or ``InvalidSymbol``.
    """
    options = ImportOptions(symbol, interval, kind="funding")
    contents = read_contents(Path(path).expanduser(), options)
    return [
        FundingRates(
            one.pair.symbol,
            one.funding.time,
            one.funding.rate,
            one.funding.interval,
            one.funding.mark,
        )
        for one in contents
        if isinstance(one, ReadFunding)
    ]


def load_market(
    symbols: str | Sequence[str] | None = None,
    *,
    home: str | Path | None = None,
    exchange: str = DEFAULT_EXCHANGE,
    start: Time | None = None,
    end: Time | None = None,
) -> Market:
    """Return the imported candles of ``symbols`` as a market for sessions in this process.

    Perpetuals come with their mark prices and funding rates, those that were imported.
    ``symbols`` are one, several, or all of the exchange; ``home`` is ``CANDLESTEP_HOME`` or
    ``~/.candlestep`` by default. The candles are those that open from ``start`` on and are
    complete by ``end``: all by default. For look-back before the start of a session, load from
    earlier on. Next to a running server, the candles are mapped from files, in memory that all
    processes share; without one, any number of processes may load at a time.

    Raises ``NoPrice`` without candles, ``SymbolNotFound``, ``InvalidParameter``, and
    ``StorageUnavailable``, for example while another process writes to the store.
    """
    directory = home_directory(home)
    wanted = WantedCandles(
        normalise_exchange(exchange),
        _normalised(symbols),
        None if start is None else parse_time(start, "start"),
        None if end is None else parse_time(end, "end"),
    )
    loaded = _from_server(directory, wanted)
    if loaded is None:
        loaded = _from_store(directory, wanted)
    inside = [part for one in loaded if (part := _between(one, wanted)) is not None]
    market = market_of(inside)
    known = set() if market is None else {*market.symbols}
    missing = sorted({*(wanted.symbols or ())} - known)
    if missing or market is None:
        raise NoPrice(
            f"there are no candles of {_listed(missing) or wanted.exchange} between these times;"
            " `candlestep data list` shows the times of all",
            home=str(directory),
        )
    return market


def load_instruments(
    symbols: str | Sequence[str] | None = None,
    *,
    home: str | Path | None = None,
    exchange: str = DEFAULT_EXCHANGE,
) -> list[Instrument]:
    """Return what a home knows of ``symbols``: filters of orders, and whether volume is usable.

    They are an argument of ``SessionConfig``, which makes a session as it is over HTTP. The other
    arguments are those of ``load_market``. Raises ``SymbolNotFound``, ``NoPrice`` for a home
    without a store, and ``StorageUnavailable``.
    """
    directory, exchange = home_directory(home), normalise_exchange(exchange)
    wanted = _normalised(symbols)
    server = running_server(directory)
    answer = None if server is None else _ask(server, INSTRUMENTS_PATH, b"{}")
    if answer is not None:
        listed = msgspec.json.decode(answer, type=_InstrumentsLine).result.instruments
    else:
        with closing(_store_of(directory, exchange)) as store:
            listed = stored_instruments(store)
    known = {one.instrument.symbol: one.instrument for one in listed if one.exchange == exchange}
    for symbol in wanted or ():
        _require_known(symbol, known, exchange)
    return [known[symbol] for symbol in sorted(known if wanted is None else wanted)]


def _normalised(symbols: str | Sequence[str] | None) -> list[str] | None:
    if symbols is None:
        return None
    several = [symbols] if isinstance(symbols, str) else symbols
    return [normalise_symbol(symbol, "symbols") for symbol in several]


def candle_request(store: Store, wanted: WantedCandles) -> CandleRequest:
    """Return the request that loads candles of the latest market of a store.

    Raises ``NoPrice`` if there are none of the exchange, ``SymbolNotFound`` and
    ``InvalidParameter``.
    """
    number = latest_import(store)
    series = [one for one in Catalogue(store).series(number) if one.exchange == wanted.exchange]
    if not series:
        raise _no_candles(store.path.parent, wanted.exchange)
    if wanted.symbols == []:
        raise InvalidParameter("symbols", "must name a symbol; leave it out for all")
    known = {one.symbol for one in series}
    symbols = sorted(known) if wanted.symbols is None else wanted.symbols
    for symbol in symbols:
        _require_known(symbol, known, wanted.exchange)
    start, end = _period([one for one in series if one.symbol in symbols], wanted)
    return CandleRequest(wanted.exchange, symbols, number, start, end, look_back=0)


def _require_known(symbol: str, known: Collection[str], exchange: str) -> None:
    if symbol not in known:
        raise SymbolNotFound(
            f"there are no candles of {symbol} on {exchange}; there are {_listed(sorted(known))}",
            symbol=symbol,
        )


def _period(series: Sequence[Series], wanted: WantedCandles) -> tuple[int, int]:
    start = min(one.start for one in series) if wanted.start is None else wanted.start
    end = max(one.end for one in series) if wanted.end is None else wanted.end
    if start >= end:
        raise InvalidParameter("end", "must be after start, and after the first candle")
    return start, end


def _from_server(home: Path, wanted: WantedCandles) -> list[Part] | None:
    """Return the candles and all else as the server on ``home`` maps them; None if no server runs there."""
    for _ in range(_TRIES):
        server = running_server(home)
        answer = None if server is None else _ask(server, MAP_PATH, msgspec.json.encode(wanted))
        if answer is None:
            return None
        # The server may have needed the room for the candles of others.
        with suppress(FileNotFoundError):
            files = msgspec.json.decode(answer, type=MappedFiles).files
            return [open_mapped(Path(path)) for path in files]
    raise StorageUnavailable(
        "the server deletes the files of candles before they can be mapped, to make room; load"
        " fewer symbols or a shorter period, or give the server more --memory-budget"
    )


def _ask(server: RunningServer, path: str, body: bytes) -> bytes | None:
    """Return the answer of a server of this user; None if it has ended. Raises its refusal."""
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=_ALIVE_SECONDS)
    headers = {TOKEN_HEADER: server.token, "Content-Type": "application/json"}
    try:
        with closing(connection):
            # A server that hangs does not answer this either, and loading may take much longer.
            connection.request("GET", "/health")
            connection.getresponse().read()
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(_LOAD_SECONDS)
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            answer = response.read()
    except ConnectionRefusedError:
        return None  # Opening the store shows whether it has ended.
    except TimeoutError:
        raise StorageUnavailable(
            f"the server at {server.url} does not answer; its process {server.pid} has the store:"
            " let it go on, or end it, and try again"
        ) from None
    except (OSError, HTTPException) as error:
        raise StorageUnavailable(
            f"the connection to the server at {server.url} broke ({error}); try again"
        ) from None
    if response.status == 200:
        return answer
    raise _refusal(server, response.status, answer)


def _refusal(server: RunningServer, status: int, body: bytes) -> SandboxError:
    """Return the error that a server answered, as what it is where this process would raise it."""
    try:
        answer: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
        code, message, details = answer["code"], answer["message"], answer["details"]
    except (*NOT_JSON, KeyError):
        return StorageUnavailable(f"the server at {server.url} answers {status}")
    if code == InvalidParameter.code:
        field = details.pop("field")
        return InvalidParameter(field, message.removeprefix(f"{field}: "), **details)
    for kind in (NoPrice, SymbolNotFound):
        if code == kind.code:
            return kind(message, **details)
    return StorageUnavailable(f"the server at {server.url} answers {status}: {message}")


def _from_store(home: Path, wanted: WantedCandles) -> list[Part]:
    with closing(_store_of(home, wanted.exchange)) as store:
        return list(CandleCache(store, _NO_BUDGET).parts(candle_request(store, wanted)).values())


def _store_of(home: Path, exchange: str) -> Store:
    """Return the store of a home, open for reading; raises ``NoPrice`` if there is none."""
    if not (home / FILE_NAME).exists():
        raise _no_candles(home, exchange)
    return Store.open_to_read(home)


def _no_candles(home: Path, exchange: str) -> NoPrice:
    return NoPrice(
        f"{home} has no candles of {exchange}; import some with `candlestep data import FILE`, or"
        " load the sample market with `candlestep data sample`",
        home=str(home),
    )


def _between(part: Part, wanted: WantedCandles) -> Part | None:
    """Return the candles that open from the start on and are complete by the end; None if none.

    Funding rates are those from the start on up to the end.
    """
    start = EARLIEST if wanted.start is None else wanted.start
    end = LATEST if wanted.end is None else wanted.end
    kept = part.between(start, end)
    return None if kept is None or not len(kept) else kept


def _listed(symbols: Sequence[str]) -> str:
    more = len(symbols) - _MOST_LISTED
    return ", ".join([*symbols[:_MOST_LISTED], *([f"and {more} more"] if more > 0 else [])])
