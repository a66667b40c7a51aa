"""The layouts of candle files: which column is what, told from names and first rows."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from candlestep.data.errors import UnreadableFile
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
_SYMBOL_NAMES = ("symbol", "ticker", "pair", "instrument", "s")
_CLOSE_TIME_NAMES = frozenset(("close_time", "closetime"))
_FUNDING_NAMES = frozenset(("last_funding_rate", "funding_rate", "fundingrate", "calc_time"))
_ARCHIVE = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_asset_volume",
    "trades", "taker_buy_volume", "taker_buy_quote_volume", "ignore",
)  # fmt: skip
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

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(self.names)

    @property
    def time_name(self) -> str:
        """The name of the column of times, for people."""
        return " and ".join(self.names[place] or "the unnamed index" for place in self.time)


def normalised(name: str) -> str:
    """Return a column's name in lower case, with ``_`` for what separates words."""
    return re.sub(r"[\s\-]+", "_", name.strip().strip("<>").lower())


def layout_of_header(file: str, header: Sequence[str]) -> Layout:
    """Tell the columns of a file from its header.

    Raises ``UnreadableFile`` where one is missing, and for funding rates.
    """
    names = [normalised(name) for name in header]
    if _FUNDING_NAMES & set(names):
        raise UnreadableFile(file, "it has funding rates, and only candles can be imported")
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
    return Layout(
        tuple(name.strip() for name in header),
        time,
        {price: place for price, place in prices.items() if place is not None},
        {name: names.index(name) for name in volumes},
        _first(names, _SYMBOL_NAMES),
    )


def layout_of_rows(file: str, row: Sequence[str]) -> Layout:
    """Tell the columns of a file without a header from their number."""
    names = _HEADERLESS.get(len(row))
    if names is None:
        raise UnreadableFile(
            file,
            f"it has no header, and {len(row)} columns instead of the 12 of the kline archive; add"
            " a header: timestamp,open,high,low,close,volume",
        )
    return layout_of_header(file, names)


def _time_columns(names: Sequence[str]) -> tuple[int, ...]:
    """Return the column of open times, or those of the date and the time of day."""
    if "date" in names and "time" in names:
        return names.index("date"), names.index("time")
    place = _first([name if name not in _CLOSE_TIME_NAMES else "-" for name in names], _TIME_NAMES)
    return () if place is None else (place,)


def _first(names: Sequence[str], aliases: Sequence[str]) -> int | None:
    return next((names.index(alias) for alias in aliases if alias in names), None)
