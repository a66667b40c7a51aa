"""Indicators: the bars of a timeframe, and TA-Lib over them.

``aggregate_bars`` makes bars from candles, ``KINDS`` lists the indicators that there are,
``parse_indicators`` checks those that a strategy declares, and ``Values`` computes them. This
package needs TA-Lib; the exchange does not.
"""
