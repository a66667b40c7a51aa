"""The exchange: one account that trades on a market while time passes.

``Exchange`` places and cancels orders and advances its clock. ``orders`` are checked, then wait in a
``book``; ``matching`` walks the candles that may trigger them; ``account`` is the exact ledger;
``risk`` limits are checked on buys.
"""
