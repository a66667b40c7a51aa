"""Evidence of what a file has, and of which instrument: its name, its place, its column of symbols.

What speaks of a perpetual is never taken for a spot pair, and neither are mark prices or funding
rates for candles. Contracts that expire or are margined in the coin, and index prices, are refused.
"""

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.kinds import KIND_WORDS, Kind
from candlestep.data.symbols import QUOTES, Pair, contract_in, normalise_symbol, parse_symbol
from candlestep.sandbox import InvalidSymbol

_KINDS: dict[Kind, re.Pattern[str]] = {
    "funding": re.compile(r"funding[-_ ]?rates?|(?<![a-z])funding(?![a-z])", re.IGNORECASE),
    "mark": re.compile(r"mark[-_ ]?price|(?<![a-z])mark(?![a-z])", re.IGNORECASE),
    "tiers": re.compile(r"(?:leverage|margin)[-_ ]?(?:tiers?|brackets?)(?![a-z])", re.IGNORECASE),
}
_REFUSED = {
    "index prices": re.compile(r"index[-_ ]?(?:price|klines)|premium[-_ ]?index", re.IGNORECASE),
    "a contract that is margined in the coin": re.compile(
        r"(?<![a-z])(?:coin-?m|inverse)(?![a-z])|(?<![a-z])USD(?:[-_. ]PERP|-SWAP|\.P)(?![a-z])"
        r"|/USD:(?!USD)[A-Z]+|(?<=[a-z])USD[-_]?PERP(?![a-z])|/([A-Z]{2,5}):(?!\1)[A-Z]{2,5}(?![a-z])",
        re.IGNORECASE,
    ),
    "a contract that expires": re.compile(r"[a-z]\d!", re.IGNORECASE),
}
"""The words for content that cannot be imported, with the spellings that tell it."""
_PERPETUAL = re.compile(r"(?<![a-z])(?:swaps?|perpetuals?)(?![a-z])", re.IGNORECASE)
_FUTURES = re.compile(r"(?<![a-z])(?:futures?|usd-?[sⓢ]?-?m)(?![a-z])", re.IGNORECASE)
_MARKS_OF_PERPETUALS = re.compile(
    r"(?<=[a-z0-9])[-_ ./]perp(?:etual)?(?![a-z])|(?<=usd[tc])perp(?![a-z])|[-_ /]swap(?![a-z])"
    r"|\.p(?![a-z0-9])",
    re.IGNORECASE,
)
"""The part that the spelling of a perpetual adds to that of its pair."""
_SETTLED = re.compile(
    r"(?<=[a-z0-9])([/_-])(USDT|USDC|FDUSD|BUSD|USD|EUR|BTC)[:_-]\2(?![a-z])", re.IGNORECASE
)

Market = Literal["spot", "perp", "futures"]
"""The market that a file speaks of; ``futures`` may expire or not."""


class Evidence(NamedTuple):
    """The facts that a name, a folder or a symbol tells; None where it tells none."""

    symbol: str | None = None
    """The symbol of the pair, in the spelling of spot."""
    market: Market | None = None
    kind: Kind | None = None
    refused: str | None = None
    """The content that cannot be imported, in words."""


_ARCHIVE_FOLDERS = {
    "markPriceKlines": Evidence(kind="mark", market="perp"),
    "fundingRate": Evidence(kind="funding", market="perp"),
    "margin_interest": Evidence(kind="funding", market="perp"),
    "indexPriceKlines": Evidence(refused="index prices"),
    "premiumIndexKlines": Evidence(refused="index prices"),
    "futures/um": Evidence(market="perp"),
    "futures/cm": Evidence(refused="a contract that is margined in the coin"),
}
"""Folders of archives, and of copies of them, that have anything else than the candles of spot."""
_SYMBOL_LIKE = re.compile(r"[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*", re.ASCII)
_TIMEFRAME_AT_END = re.compile(
    r"([A-Z]{6,12}?)(M1|M3|M5|M15|M30|H1|H2|H4|H6|H8|H12|D1|W1|10080|1440|240|60|30|15|5|1)"
)
_MONEY = frozenset(
    ["USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "DAI", "USD", "EUR", "GBP", "JPY"]
)
"""Quotes by which a pair is told from two words that stand next to each other by chance."""
_NOT_SYMBOLS = frozenset(
    [
        "candles",
        "candlestick",
        "data",
        "klines",
        "ohlc",
        "ohlcv",
        "spot",
        "ascii",
        "dat",
        "bid",
        "ask",
        "trades",
        "binance",
        "bitstamp",
        "bybit",
        "coinbase",
        "gemini",
        "kraken",
        "okx",
        "bitfinex",
        "poloniex",
    ]
)


def evidence_of_name(name: str) -> Evidence:
    """Return what the name of a file or a folder says."""
    refused = _refused_in(name)
    if refused is not None:
        return Evidence(refused=refused)
    kind = next((kind for kind, pattern in _KINDS.items() if pattern.search(name)), None)
    is_perp = kind is not None or contract_in(name) is not None or _PERPETUAL.search(name)
    market: Market | None = "perp" if is_perp else None
    if market is None and _FUTURES.search(name):
        market = "futures"
    pair = _MARKS_OF_PERPETUALS.sub("", _SETTLED.sub(r"\1\2", name)) if market else name
    return Evidence(_symbol_in(pair.split(".")[0]), market, kind)


def evidence_of_place(path: Path, member: str | None) -> list[Evidence]:
    """Return what the archive of a member says, and the folders that a file is in."""
    names = [] if member is None else [path.name, *Path(member).parts[:-1]]
    inside = "/".join(Path(member or "").parts[:-1])
    told = [evidence_of_name(name) for name in names]
    folders = [*path.absolute().parts[:-1], *inside.split("/")]
    pairs = [*folders, *map("/".join, pairwise(folders))]
    return told + [_ARCHIVE_FOLDERS[name] for name in pairs if name in _ARCHIVE_FOLDERS]


def evidence_of_text(text: str) -> Evidence:
    """Return what a symbol in a column or an option says; raises ``InvalidSymbol``."""
    refused = _refused_in(text)
    if refused is not None:
        return Evidence(refused=refused)
    if contract_in(text) is None:
        return Evidence(normalise_symbol(text))
    pair = _MARKS_OF_PERPETUALS.sub("", _SETTLED.sub(r"\1\2", text.strip()))
    return Evidence(normalise_symbol(pair), "perp")


def _refused_in(text: str) -> str | None:
    """Return what a name or a symbol speaks of that cannot be imported."""
    contract = contract_in(text)
    if contract is not None and "expires" in contract:
        return contract
    return next((words for words, pattern in _REFUSED.items() if pattern.search(text)), None)


class Told(NamedTuple):
    """The facts that the name, the place and the options of a file tell together."""

    kind: Kind | None
    """None if only its rows tell."""
    is_perp: bool


def told_of(
    file: str, path: Path, member: str | None, kind: Kind | None, is_perp: bool, symbol: str | None
) -> Told:
    """Return what is told of a file before it is read; the last three are options of the caller.

    Raises ``UnreadableFile`` for what cannot be imported, and where two of them contradict each
    other.
    """
    place = "the archive or the folder that it is in"
    evidence = [("its name", evidence_of_name(file))]
    evidence += [(place, one) for one in evidence_of_place(path, member)]
    if symbol is not None:
        evidence.append(("--symbol", evidence_of_text(symbol)))
    for source, one in evidence:
        require_importable(file, one, source)
    kinds = [(source, one.kind) for source, one in evidence if one.kind is not None]
    if kind is not None:
        kinds.insert(0, ("--kind", kind))
    for source, other in kinds[1:]:
        if other != kinds[0][1]:
            raise UnreadableFile(
                file,
                f"{kinds[0][0]} says that it has {KIND_WORDS[kinds[0][1]]}, but {source} says"
                f" {KIND_WORDS[other]}; correct the one that is wrong",
            )
    told = kinds[0][1] if kinds else None
    markets = {one.market for _, one in evidence}
    is_perp = is_perp or "perp" in markets or told in ("mark", "funding", "tiers")
    if "futures" in markets and not is_perp:
        source = next(source for source, one in evidence if one.market == "futures")
        raise UnreadableFile(
            file,
            f"{source} says that it has futures; give --perp if they are of a perpetual, because"
            " contracts that expire cannot be imported",
        )
    return Told(told, is_perp)


def require_importable(file: str, evidence: Evidence, source: str) -> None:
    """Raise ``UnreadableFile`` if a file has what cannot be imported."""
    if evidence.refused is not None:
        raise UnreadableFile(
            file,
            f"{source} says that it has {evidence.refused}; only spot pairs, and perpetuals that are"
            " margined in the currency of their prices, can be imported",
        )


def pair_of(
    file: str, given: str | None, in_rows: str | None, several: bool, is_perp: bool = False
) -> Pair:
    """Return the pair of a series: as given, else as in its rows, else as in the file's name.

    The name does not say which of ``several`` symbols it means. Raises ``UnreadableFile`` where two
    of them contradict each other, or none of them tells, and ``InvalidSymbol``.
    """
    named = evidence_of_name(file)
    texts = [(given, "--symbol")] if given is not None else []
    told = [(spot_symbol(text), text, source) for text, source in texts]
    if named.symbol is not None and not several:
        told.append((named.symbol, named.symbol, "its name"))
    pair = _pair_told(file, told, in_rows)
    if not is_perp:
        return pair
    if pair.quote == "USD" and given is None:
        raise UnreadableFile(
            file,
            f"it is of a perpetual of {pair.base} in USD, which many exchanges margin in the coin,"
            " and such contracts cannot be imported; if it is margined in the currency of its"
            f" prices, give --symbol, such as {pair.base}/USDC:USDC",
        )
    return perpetual(pair)


def perpetual(pair: Pair) -> Pair:
    """Return the perpetual of a pair, which is margined in its quote currency."""
    return Pair(f"{pair.base}{pair.quote}-PERP", pair.base, pair.quote)


def spot_symbol(text: str) -> str:
    """Return a spelling of a symbol, or of a perpetual, as that of the pair."""
    if contract_in(text) is None:
        return text
    return _MARKS_OF_PERPETUALS.sub("", _SETTLED.sub(r"\1\2", text.strip()))


def _pair_told(file: str, told: list[tuple[str, str, str]], in_rows: str | None) -> Pair:
    """Return the pair of a series; ``told`` are spellings of it, as they are given, by whom."""
    if in_rows is None:
        if not told:
            raise UnreadableFile(
                file, "neither its name nor its rows tell the symbol; give it with --symbol"
            )
        return parse_symbol(told[0][0])
    in_rows = spot_symbol(in_rows)
    for text, _, source in told:
        pair = parse_symbol(text)
        if normalise_symbol(in_rows) not in (pair.symbol, pair.base):
            raise UnreadableFile(
                file,
                f"{source} says {pair.symbol}, but its rows say {normalise_symbol(in_rows)};"
                " correct the one that is wrong",
            )
    try:
        # Rows may name a share without the currency of its prices.
        return parse_symbol(told[0][0] if told else in_rows)
    except InvalidSymbol:
        raise UnreadableFile(
            file,
            f"its rows say {in_rows[:40]}, whose quote currency is not known; give it with --symbol,"
            f" such as {in_rows[:20]}/USD",
        ) from None


def _symbol_in(stem: str) -> str | None:
    """Return the symbol in a name; None where two are as likely, such as in ``my_BTC_ETH``."""
    words = [word for word in re.split(r"[-_., ]+", stem) if word]
    words = [word for word in words if word.lower() not in _NOT_SYMBOLS]
    symbols = {
        normalise_symbol(candidate): parse_symbol(candidate).quote in _MONEY
        for first, second in pairwise([*words, ""])
        for candidate in _candidates(first, second)
        if _is_symbol(candidate)
    }
    likely = [symbol for symbol, in_money in symbols.items() if in_money] or list(symbols)
    return likely[0] if len(likely) == 1 else None


def _candidates(first: str, second: str) -> Iterable[str]:
    yield f"{first}/{second}"
    yield first
    with_timeframe = _TIMEFRAME_AT_END.fullmatch(first)
    if with_timeframe is not None:
        yield with_timeframe[1]


def _is_symbol(candidate: str) -> bool:
    if not all(_SYMBOL_LIKE.fullmatch(part) for part in candidate.split("/")):
        return False
    try:
        pair = parse_symbol(candidate)
    except InvalidSymbol:
        return False
    if pair.base.lower() in _NOT_SYMBOLS:
        return False
    return pair.quote in QUOTES if "/" in candidate else len(pair.base) >= 2
