"""The tool that lists what there is to trade on."""

from collections.abc import Sequence

from candlestep.api.mcp.answers import DataList
from candlestep.api.mcp.arguments import ListData
from candlestep.api.mcp.text import short_time, table
from candlestep.api.services import Services
from candlestep.data.market.catalogue import Catalogue, Series, by_symbol
from candlestep.data.symbols import DEFAULT_EXCHANGE, normalise_symbol
from candlestep.sandbox import format_time, interval_name


async def list_data(services: Services, arguments: ListData) -> DataList:
    """List the symbols, their intervals, and the time that their candles cover."""
    series = await services.read(services.catalogue.series)
    if not series:
        return DataList(
            data="no candles", next="import some: candlestep data import FILE, or data sample"
        )
    part = "".join(filter(str.isalnum, arguments.symbol or "")).upper()
    rows = [
        _row(group)
        for (_, symbol), group in by_symbol(series).items()
        if part in symbol.replace("-", "")
    ]
    if not rows:
        return DataList(data="no such symbol", next="list_data without symbol shows them all")
    return DataList(
        data=table("exchange symbol intervals from to synthetic", rows),
        next="create_session(symbols, start, end) within these times",
    )


def exchange_of(catalogue: Catalogue, symbols: Sequence[str]) -> str:
    """Return the exchange whose candles a session on these symbols has. Blocks.

    It is the usual one, unless only another has candles of them all.
    """
    wanted = {normalise_symbol(symbol) for symbol in symbols}
    by_exchange: dict[str, set[str]] = {}
    for series in catalogue.series():
        by_exchange.setdefault(series.exchange, set()).add(series.symbol)
    if wanted <= by_exchange.get(DEFAULT_EXCHANGE, set()):
        return DEFAULT_EXCHANGE
    having = [exchange for exchange, symbols in by_exchange.items() if wanted <= symbols]
    return having[0] if having else DEFAULT_EXCHANGE


def _row(group: Sequence[Series]) -> str:
    intervals = ",".join(interval_name(series.interval) for series in group)
    start, end = min(series.start for series in group), max(series.end for series in group)
    synthetic = "yes" if any(series.synthetic for series in group) else "no"
    times = " ".join(short_time(format_time(time)) for time in (start, end))
    return f"{group[0].exchange} {group[0].symbol} {intervals} {times} {synthetic}"
