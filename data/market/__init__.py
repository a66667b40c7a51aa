"""The market of the store: the candles that are stored, and those loaded into memory.

``Catalogue`` lists the series, ``CandleCache`` loads candles that sessions share, and
``MappedCandles`` writes them to files that worker processes map.
"""
