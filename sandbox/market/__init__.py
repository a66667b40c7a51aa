"""The market: candles by symbol, read as of a time so that nothing later is visible.

``Candles`` checks and holds the series of one symbol, ``Market`` those of all. Both are immutable
and shared by any number of sessions. A candle is visible once it is complete:
``Candles.last_complete`` decides which is the latest.
"""
