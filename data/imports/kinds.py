"""The kinds of import: what the rows of a file are."""

from typing import Literal

Kind = Literal["candles", "mark", "funding", "tiers"]

KIND_WORDS: dict[Kind, str] = {
    "candles": "candles",
    "mark": "mark prices",
    "funding": "funding rates",
    "tiers": "margin tiers",
}
