"""The layouts of files of candles, mark prices and funding rates: which column is what.

They are told from names and first rows.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.kinds import KIND_WORDS, Kind
from candlestep.data.imports.volumes import volume_columns

PRICES = ("open", "high", "low", "close")

_TIME_NAMES = (
    "open_time", "opentime", "unix", "unix_timestamp", "timestamp", "datetime", "date_time", "ts",
    "gmt_time", "local_time", "time", "date", "t", "__index_level_0__", "index", "",
)  # fmt: skip
_PRICE_NAMES = {
    "open": ("open", "open_price", "o"),
    "high": ("high", "high_price", "h"),
    "low": ("low", "low_price", "l"),
    "close": ("close", "close_price", "c", "close/last"),
}
_SYMBOL_NAMES = ("symbol", "ticker", "pair", "instrument", "s", "coin", "instid", "inst_id")
_CLOSE_TIME_NAMES = frozenset(("close_time", "closetime"))
_RATE_NAMES = ("realizedrate", "last_funding_rate", "funding_rate", "fundingrate")
"""Columns of funding rates; OKX settles at the realized one."""
_FUNDING_TIME_NAMES = (
    "calc_time", "funding_time", "fundingtime", "fundingratetimestamp", "effectiveat", *_TIME_NAMES,
)  # fmt: skip
_FUNDING_INTERVAL_NAMES = ("funding_interval_hours", "fundingintervalhours")
_MARK_NAMES = ("mark_price", "markprice")
_MARGIN_NAMES = frozenset(("maintenancemarginrate", "maintmarginratio", "initialleverage"))
_ARCHIVE_FUNDING = ("calc_time", "funding_interval_hours", "last_funding_rate")
_LEAN_FUNDING = ("time", "funding_rate")
_ARCHIVE = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_asset_volume",
    "trades", "taker_buy_volume", "taker_buy_quote_volume", "ignore",
)  # fmt: skip
_FUTURES = (
    *_ARCHIVE[:7], "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume", "ignore",
)  # fmt: skip
_NO_VOLUME, _TRADES = re.compile(r"0(\.0*)?"), re.compile(r"0*[1-9]\d*")
_HISTDATA_TIME, _METATRADER_DATE = re.compile(r"\d{8} \d{6}"), re.compile(r"\d{4}(\.\d\d){2}")
_MILLISECONDS, _HOURS = re.compile(r"1\d{12}"), re.compile(r"\d{1,2}")
_RATE = re.compile(r"[+-]?(?:0?\.\d+|0|\d(?:\.\d+)?[eE]-\d+)")
_HEADERLESS = {6: _ARCHIVE[:6], 12: _ARCHIVE, 7: ("date", "time", *_ARCHIVE[1:6])}


@dataclass(frozen=True)
class Layout:
    """The columns of a file, by position."""

    names: tuple[str, ...]
    """The names in the file's header, or those that its layout is known to have."""
    time: tuple[int, ...]
    """One column, or a date and a time of day that are joined."""
    prices: dict[str, int]
    volumes: dict[str, int]
    """The columns that can be the volume, by their normalised names."""
    symbol: int | None
    source: Literal["HistData", "MetaTrader"] | None = None
    """The source that writes this layout, if only one is known to."""
    kind: Kind = "candles"
    """The kind of rows that the columns can be; those of candles can be mark prices too."""
    quote: str | None = None
    """The currency that the layout's exchange margins in, where its rows do not name it."""
    is_futures: bool = False
    """True for the columns that the public kline archive has for perpetuals and their marks."""

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(self.names)

    @property
    def is_local(self) -> bool:
        """True if the times are those of a zone that the header does not name."""
        return any(normalised(self.names[place]) == "local_time" for place in self.time)

    @property
    def time_name(self) -> str:
        """The name of the column of times, for people."""
        return " and ".join(self.names[place] or "the unnamed index" for place in self.time)


def normalised(name: str) -> str:
    """Return a column's name in lower case, with ``_`` for what separates words."""
    return re.sub(r"[\s\-]+", "_", name.strip().strip("<>").lower())


def layout_of_header(file: str, header: Sequence[str], kind: Kind | None = None) -> Layout:
    """Tell the columns of a file from its header; ``kind`` is what is known of its rows.

    Raises ``UnreadableFile`` where a column is missing or occurs twice, and where the columns are
    not of that kind.
    """
    names = [normalised(name) for name in header]
    if kind == "tiers" or _MARGIN_NAMES & set(names):
        raise UnreadableFile(
            file,
            "margin tiers are read from JSON alone, as ccxt's fetch_leverage_tiers and the leverage"
            " brackets of Binance have them",
        )
    has_prices = all(_first(names, aliases) is not None for aliases in _PRICE_NAMES.values())
    has_rates = _first(names, _RATE_NAMES) is not None or {"rate", "effectiveat"} <= set(names)
    if has_rates and has_prices and kind is None:
        raise UnreadableFile(
            file,
            "it has both prices and funding rates; give --kind candles to import its prices, or"
            " --kind mark",
        )
    if kind == "funding" or (has_rates and not has_prices):
        _require_kind(file, kind, "funding")
        return _layout_of_funding(file, header, names, has_rates, has_prices)
    return _layout_of_candles(file, header, names)


def _require_kind(file: str, told: Kind | None, kind: Kind) -> None:
    """Raise ``UnreadableFile`` unless columns of a kind are what is told of a file."""
    if told is not None and told != kind:
        raise UnreadableFile(
            file, f"it has {KIND_WORDS[kind]}, and not {KIND_WORDS[told]}; give --kind {kind}"
        )


def _layout_of_funding(
    file: str, header: Sequence[str], names: Sequence[str], has_rates: bool, has_prices: bool
) -> Layout:
    """Return the columns of funding rates: those of the rate, the interval and the mark price."""
    numbers = {
        "rate": _first(names, _RATE_NAMES if has_rates else ("open",)),
        "interval": _first(names, _FUNDING_INTERVAL_NAMES),
        "mark": _first(names, _MARK_NAMES),
    }
    if "effectiveat" in names:
        numbers["rate"] = _first(names, ("rate", *_RATE_NAMES))
        numbers["mark"] = _first(names, ("price", *_MARK_NAMES))
    if has_prices and has_rates:
        raise UnreadableFile(
            file,
            "it has prices beside its funding rates, so its rows are candles and not settlements;"
            " save the rows of the settlements without prices",
        )
    if has_prices:
        # Rates as candles, whose opens are the rates and all else 0.
        numbers |= {name: _first(names, _PRICE_NAMES[name]) for name in PRICES[1:]}
        numbers |= {name: names.index(name) for name in volume_columns(names)}
    time = _first(names, _FUNDING_TIME_NAMES)
    if numbers["rate"] is None or time is None:
        listed = ", ".join(name[:30] or "(no name)" for name in header[:15])
        raise UnreadableFile(
            file,
            f"no column of {'times' if numbers['rate'] is not None else 'funding rates'}; it has:"
            f" {listed}. Name the columns funding_time, funding_rate",
        )
    _refuse_twice(file, names, [time, *numbers.values()])
    return Layout(
        tuple(name.strip() for name in header),
        (time,),
        {name: place for name, place in numbers.items() if place is not None},
        {},
        _first(names, _SYMBOL_NAMES),
        kind="funding",
        # Hyperliquid and dYdX.
        quote="USDC" if {"coin", "premium"} <= set(names) or "effectiveat" in names else None,
    )


def _layout_of_candles(file: str, header: Sequence[str], names: Sequence[str]) -> Layout:
    prices = {price: _first(names, aliases) for price, aliases in _PRICE_NAMES.items()}
    time = _time_columns(names)
    volumes = volume_columns(names)
    missing = [*(() if time else ("time",)), *(name for name in prices if prices[name] is None)]
    if not volumes and any("vol" in name for name in names):
        missing.append("volume")
    if missing:
        listed = ", ".join(name[:30] or "(no name)" for name in header[:15])
        raise UnreadableFile(
            file,
            f"no column for {', '.join(missing)}; it has: {listed}. Name the columns timestamp,"
            " open, high, low, close, volume",
        )
    _refuse_twice(file, names, [*time, *prices.values(), *map(names.index, volumes)])
    return Layout(
        tuple(name.strip() for name in header),
        time,
        {price: place for price, place in prices.items() if place is not None},
        {name: names.index(name) for name in volumes},
        _first(names, _SYMBOL_NAMES),
        "MetaTrader" if all(name.startswith("<") for name in header) else None,
        is_futures=tuple(names) == _FUTURES,
    )


def _refuse_twice(file: str, names: Sequence[str], used: Sequence[int | None]) -> None:
    """Raise ``UnreadableFile`` if the name of a column that is used occurs twice."""
    for name in (names[place] for place in used if place is not None):
        if name and names.count(name) > 1:
            raise UnreadableFile(
                file, f"it has two columns {name[:30]!r}; rename the one that is not meant"
            )


def layout_of_rows(file: str, row: Sequence[str], kind: Kind | None = None) -> Layout:
    """Tell the columns of a file without a header from their number, and from its first row."""
    if _is_archive_funding(row):
        return layout_of_header(file, _ARCHIVE_FUNDING, kind)
    if len(row) == 2 and kind == "funding":
        return layout_of_header(file, _LEAN_FUNDING, kind)
    names = _HEADERLESS.get(len(row))
    if names is None:
        raise UnreadableFile(
            file,
            f"it has no header, and {len(row)} columns instead of the 12 of the kline archive; add"
            " a header: timestamp,open,high,low,close,volume"
            + (" (or give --kind funding, if these are times and funding rates)" * (len(row) == 2)),
        )
    has_no_volume = names is _ARCHIVE and _NO_VOLUME.fullmatch(row[5]) and _TRADES.fullmatch(row[8])
    if has_no_volume and kind != "mark":
        raise UnreadableFile(
            file,
            "it has trades without a volume, as mark and index prices in the public kline archive"
            " have; give --kind mark if they are mark prices (index prices cannot be imported)",
        )
    layout = layout_of_header(file, names, kind)
    if _HISTDATA_TIME.fullmatch(row[0]):
        return replace(layout, source="HistData")
    is_metatrader = len(layout.time) == 2 and _METATRADER_DATE.fullmatch(row[0])
    return replace(layout, source="MetaTrader") if is_metatrader else layout


def _is_archive_funding(row: Sequence[str]) -> bool:
    """Return whether a row is one of the funding rates of the public kline archive."""
    patterns = (_MILLISECONDS, _HOURS, _RATE)
    return len(row) == 3 and all(
        pattern.fullmatch(cell.strip()) for pattern, cell in zip(patterns, row, strict=True)
    )


def _time_columns(names: Sequence[str]) -> tuple[int, ...]:
    """Return the column of open times, or those of the date and the time of day."""
    if "date" in names and "time" in names:
        return names.index("date"), names.index("time")
    place = _first([name if name not in _CLOSE_TIME_NAMES else "-" for name in names], _TIME_NAMES)
    return () if place is None else (place,)


def _first(names: Sequence[str], aliases: Sequence[str]) -> int | None:
    return next((names.index(alias) for alias in aliases if alias in names), None)
