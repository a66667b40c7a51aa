"""JSON files: lists of lists, as ccxt and freqtrade write them, or lists of objects."""

import io
from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec

from candlestep.data.errors import NOT_JSON, UnreadableFile
from candlestep.data.imports.kinds import KIND_WORDS
from candlestep.data.imports.layouts import layout_of_header, layout_of_rows
from candlestep.data.imports.perpetual.tiers import TierFile, tiers_in
from candlestep.data.imports.reading import ImportOptions, Problems, ReadFile, Row, file_of_rows

_LISTS = ("bars", "historicalFunding", "data", "list")
"""Names under which documents have their records: Alpaca, dYdX, OKX, Bybit."""


def read_json(
    file: str, stream: io.BufferedReader, options: ImportOptions, latest: int
) -> ReadFile | TierFile:
    """Read lists of lists, as ccxt and freqtrade write them, lists of objects, or margin tiers."""
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=str)
    try:
        content = decoder.decode(stream.read().removeprefix(b"\xef\xbb\xbf"))
    except NOT_JSON as error:
        raise UnreadableFile(file, f"it is not valid JSON: {error}") from None
    tiers = tiers_in(content)
    if tiers is not None:
        if options.kind not in (None, "tiers"):
            raise UnreadableFile(
                file,
                f"it has margin tiers, and not {KIND_WORDS[options.kind]}; give --kind tiers",
            )
        return TierFile(file, tiers)
    if options.kind == "tiers":
        raise UnreadableFile(
            file,
            "it has no margin tiers: objects with minNotional, maintenanceMarginRate and"
            " maxLeverage, in a list for each symbol",
        )
    records, symbol = _json_records(file, content)
    names, rows = _json_rows(records)
    layout = (
        layout_of_rows(file, rows[0].cells, options.kind)
        if names is None
        else layout_of_header(file, names, options.kind)
    )
    return file_of_rows(file, rows, layout, Problems(file, "row"), options, latest, symbol)


def _json_records(file: str, content: Any) -> tuple[list[Any], str | None]:
    """Return the records of a document, and the symbol that it names outside of them."""
    symbol = content.get("symbol") if isinstance(content, dict) else None
    if isinstance(content, dict) and isinstance(content.get("result"), dict):
        content = content["result"]
        if content.get("category") == "inverse":
            raise UnreadableFile(
                file, "it is of contracts that are margined in the coin, which cannot be imported"
            )
    if isinstance(content, dict):
        content = next((content[name] for name in _LISTS if name in content), None)
        if isinstance(content, dict):
            symbol, content = None, _with_symbols(content)
    if not isinstance(content, list):
        raise UnreadableFile(file, "it is not a list of rows [ms, open, high, low, close, volume]")
    if not content:
        raise UnreadableFile(file, "it has no candles")
    return content, symbol if isinstance(symbol, str) else None


def _with_symbols(bars: dict[str, Any]) -> list[Any]:
    """Return the records of all symbols as one list, each with its symbol."""
    return [
        {**record, "symbol": symbol} if isinstance(record, dict) else record
        for symbol, records in bars.items()
        for record in (records if isinstance(records, list) else [records])
    ]


def _json_rows(records: Sequence[Any]) -> tuple[list[str] | None, list[Row]]:
    """Return rows of text, and the names of their columns if the records are objects."""
    first = records[0]
    if isinstance(first, dict):
        # Early records lack what an exchange has added since, such as mark prices.
        fields = (record for record in records if isinstance(record, dict))
        names = list(dict.fromkeys(str(name) for name in chain.from_iterable(fields)))
        cells = (
            [_json_text(record.get(name)) for name in names] if isinstance(record, dict) else []
            for record in records
        )
        return names, [Row(number, row) for number, row in enumerate(cells, 1)]
    lists = (record if isinstance(record, list) else [] for record in records)
    # Some exchanges append further figures to the six that are known.
    texts = ([_json_text(value) for value in values[:6]] for values in lists)
    return None, [Row(number, row) for number, row in enumerate(texts, 1)]


def _json_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value)
