"""The market of the store: the candles that are stored, and those loaded into memory.

``Catalogue`` lists the series, ``CandleCache`` loads candles that sessions share, and
``MappedCandles`` writes them to files that worker processes map.
``MarketSource`` names a market that is loaded in the process that needs it.
"""

from candlestep.data.market.market_source import MarketSource

__all__ = ["MarketSource"]
