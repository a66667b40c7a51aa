"""Ids that are digests, so that the same request twice has the same id."""

import hashlib
from typing import Any

import msgspec

_ID_DIGITS = 22
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def derived_id(*parts: Any) -> str:
    """Return an id of 22 letters and digits, the same for the same parts, which are JSON."""
    number = int.from_bytes(hashlib.sha256(msgspec.json.encode(parts)).digest()[:16])
    digits = []
    for _ in range(_ID_DIGITS):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
