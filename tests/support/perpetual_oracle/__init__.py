"""The oracle of perpetual futures: the chapter on them as a plain loop.

It walks every candle of every symbol along each leg of its path, with exact decimals, and shares
no code with ``sandbox``: where the two differ, one of them is wrong.
"""
