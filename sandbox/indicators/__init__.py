"""Indicators: the bars of a timeframe, and TA-Lib over them.

``aggregate_bars`` makes bars from candles, ``parse_indicators`` checks declarations, and ``Values``
computes them. This package needs TA-Lib; the exchange does not.
"""
