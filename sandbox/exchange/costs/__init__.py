"""The costs of trading: fee models, dated fee schedules, slippage, and the terms of a trade.

A session has one ``Costs``; ``terms`` turns it, a price and an order into what a trade comes to.
"""
