"""The costs of trading: fee models, dated fee schedules, slippage, and the terms of a trade.

A session has one ``Costs``, made of a fee model (``fees``) and a slippage model (``costs``).
Its methods apply it to an order: the price after slippage, the amount and the fee.
"""
