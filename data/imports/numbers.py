"""Numbers in candle files: text with either decimal mark, made into the nearest doubles."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DecimalMark = Literal[".", ","]

MISSING = frozenset(("", "nan", "null", "none", "na", "n/a", "-"))
"""Texts that stand for no value, in lower case."""

EXACT_DIGITS = 15
"""Every decimal of this many significant digits is reproduced by its nearest double."""
_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = {
    ".": re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", re.ASCII),
    ",": re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d+)?", re.ASCII),
}
_CERTAIN_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)", re.ASCII)
_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)


def parse_numbers(texts: Sequence[str], mark: DecimalMark | None) -> Floats:
    """Return numbers, NaN for missing ones; ``mark`` is the decimal mark, if it was given.

    Raises ``ValueError`` with the reason for the first text that is not a number for certain.
    """
    joined = "".join(texts)
    if mark != "," and joined.isascii() and "_" not in joined:
        with suppress(ValueError):  # If some are missing or wrong, each is looked at.
            return np.fromiter(map(float, texts), np.float64, len(texts))
    parse = _with_comma if mark == "," else _with_point(mark)
    return np.fromiter((parse(text.strip()) for text in texts), np.float64, len(texts))


def inexact(texts: Sequence[str], numbers: Floats, mark: DecimalMark | None) -> list[int]:
    """Return the places of texts that have more digits than their doubles reproduce."""
    if max(map(len, texts), default=0) <= EXACT_DIGITS:
        return []
    places = (place for place, text in enumerate(texts) if len(text) > EXACT_DIGITS)
    return [place for place in places if _is_inexact(texts[place], float(numbers[place]), mark)]


def _is_inexact(text: str, number: float, mark: DecimalMark | None) -> bool:
    plain = text.strip()
    plain = plain.replace(".", "").replace(",", ".") if mark == "," else plain.replace(",", "")
    return _PLAIN.fullmatch(plain) is not None and Decimal(plain) != Decimal(repr(number))


def _with_point(mark: DecimalMark | None) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if text.lower() in MISSING:
            return float("nan")
        if _PLAIN.fullmatch(text):
            return float(text)
        if (_THOUSANDS["."] if mark else _CERTAIN_THOUSANDS).fullmatch(text):
            return float(text.replace(",", ""))
        raise ValueError(_reason(text))

    return parse


def _with_comma(text: str) -> float:
    if text.lower() in MISSING:
        return float("nan")
    if _THOUSANDS[","].fullmatch(text):
        text = text.replace(".", "")
    with_point = text.replace(",", ".", 1)
    if "." in text or not _PLAIN.fullmatch(with_point):
        raise ValueError(f"{text[:40]!r} is not a number with a decimal comma")
    return float(with_point)


def _reason(text: str) -> str:
    if _COMMA.fullmatch(text):
        as_point, as_thousands = text.replace(",", "."), text.replace(",", "")
        return (
            f"{text[:40]!r} is {as_point} with a decimal comma, or {as_thousands} with a separator"
            " of thousands; give --decimal , or --decimal ."
        )
    if _THOUSANDS[","].fullmatch(text):
        return f"{text[:40]!r} is a number only with a decimal comma; give --decimal ,"
    return f"{text[:40]!r} is not a number"
