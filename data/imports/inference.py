"""Inference of the symbol and interval of candles from a file's name and its open times."""

import re

import numpy as np
from numpy.typing import NDArray

from candlestep.data.errors import InvalidSymbol, UnreadableFile
from candlestep.data.symbols import QUOTES, normalise_symbol, parse_symbol
from candlestep.sandbox.clock import INTERVALS, interval_name, parse_interval

_INTERVAL_LIKE = re.compile(r"\d{1,2}[smhdwM]")
_SYMBOL_LIKE = re.compile(r"[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*")
_ENOUGH = 10
"""The number of rows at which a spacing shared by all counts as the interval, not a coincidence."""


def symbol_from_name(file_name: str) -> str | None:
    """Return the symbol in a name such as ``BTCUSDT-1m-2024-10.csv.gz``; None without one."""
    words = _words(file_name)
    for first, second in zip(words, [*words[1:], ""], strict=True):
        for candidate in (f"{first}/{second}", first):
            if _is_symbol(candidate):
                return normalise_symbol(candidate)
    return None


def interval_from_name(file_name: str) -> int | None:
    """Return the interval in a name, in milliseconds; None without one.

    Raises ``UnreadableFile`` for an interval that is not supported.
    """
    for word in _words(file_name):
        if word in INTERVALS:
            return INTERVALS[word]
        if _INTERVAL_LIKE.fullmatch(word):
            raise UnreadableFile(
                file_name,
                f"its name says that the interval of its candles is {word}; only"
                f" {', '.join(INTERVALS)} can be imported (if the name is wrong, give --interval)",
            )
    return None


def interval_of(file_name: str, stated: str | int | None, open_times: NDArray[np.int64]) -> int:
    """Return the interval of the candles of a file, in milliseconds.

    It is the one ``stated`` by the caller, else that in the file's name, else the most common
    spacing of ``open_times`` (milliseconds, sorted). Raises ``UnreadableFile`` if none of these is
    an interval, or if all rows are further apart than the stated or named one.
    """
    if stated is not None:
        interval: int | None = parse_interval(stated)
    else:
        interval = interval_from_name(file_name)
    spacings, counts = np.unique(np.diff(open_times), return_counts=True)
    if interval is None:
        common = int(spacings[counts.argmax()]) if len(spacings) else 0
        if common not in INTERVALS.values():
            raise UnreadableFile(
                file_name, "the interval of its candles is not clear; give it with --interval"
            )
        return common
    apart = int(spacings.min()) if len(open_times) >= _ENOUGH else interval
    if apart > interval and apart in INTERVALS.values() and not (spacings % apart).any():
        raise UnreadableFile(
            file_name,
            f"its rows are {interval_name(apart)} apart, so they are not"
            f" {interval_name(interval)} candles; give --interval {interval_name(apart)}",
        )
    return interval


def symbol_of(file_name: str, stated: str | None) -> str:
    """Return the symbol of the candles of a file: the one ``stated``, else that in its name.

    Raises ``InvalidSymbol`` if there is neither.
    """
    symbol = stated if stated is not None else symbol_from_name(file_name)
    if symbol is None:
        raise InvalidSymbol(
            f"{file_name}: the name of the file does not have a symbol; give it with --symbol",
            file=file_name,
        )
    return symbol


def _words(file_name: str) -> list[str]:
    return re.split(r"[-_. ]+", file_name)


def _is_symbol(candidate: str) -> bool:
    if not all(_SYMBOL_LIKE.fullmatch(part) for part in candidate.split("/")):
        return False
    try:
        instrument = parse_symbol(candidate)
    except InvalidSymbol:
        return False
    if "/" in candidate:
        return instrument.quote in QUOTES
    return len(instrument.base) >= 2
