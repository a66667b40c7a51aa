"""Ids that are digests: what is asked for twice has the same id, and is made once."""

import hashlib
from typing import Any

import msgspec

_ID_DIGITS = 22
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def derived_id(*parts: Any) -> str:
    """An id of 22 letters and digits that these parts, which are JSON, always give."""
    number = int.from_bytes(hashlib.sha256(msgspec.json.encode(parts)).digest()[:16])
    digits = []
    for _ in range(_ID_DIGITS):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
