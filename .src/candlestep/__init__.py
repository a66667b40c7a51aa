"""Candlestep: a simulated exchange that an agent steps through candle by candle.

``candlestep.sandbox`` is the exchange, ``candlestep.data`` stores candles and results, and
``candlestep.api`` is the server and the command line.
"""

__version__ = "0.2.0"
