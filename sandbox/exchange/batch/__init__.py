"""Many accounts that trade by weights at once, in int64, equal to sessions to the last digit.

``Batch`` keeps the accounts and applies the rules of orders; ``tape`` has the candles of a symbol on
the clock's grid, ``prices`` the fill prices, fees and slippage, ``guards`` the stops and targets of
positions. NumPy only, no decimals: every amount is a whole number of 1e-8, every rounding is that
of the ledger.
"""
