"""The exchange: one account that trades on a market while time passes.

``Exchange`` places and cancels orders and advances its clock. Orders wait in books; matching walks
the candles that may trigger them; the account is the exact ledger; risk limits are checked on buys.
"""
