"""SQL of lines: the candles, mark prices, funding rates and margin tiers of an instrument.

Each has imports of its own, and so an instrument of its own in the store; see ``name_of_line``.
"""

SYMBOL_OF_LINE = "split_part(symbol, '.', 1)"
"""SQL for ``symbol_of_line`` of a row of ``instruments``."""
KIND_OF_LINE = "CASE WHEN kind IN ('spot', 'perp') THEN 'candles' ELSE kind END"
"""SQL for the kind of import of a row of ``instruments``."""
