"""The market of the store: which candles there are, and candles in memory.

``Catalogue`` lists the series, ``CandleCache`` loads candles that sessions share, and
``MappedCandles`` writes them to files that worker processes map.
"""
