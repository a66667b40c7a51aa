"""The exchange: one account that trades on a market while time passes.

``Exchange`` places and cancels orders and advances its clock. ``orders`` are checked, by the filters
of ``instruments`` too, then wait in a ``book``; ``matching`` walks the candles that may trigger
them; ``account`` is the exact ledger; ``risk`` limits are checked on buys. What an account may do
is asked of its ``clearing``: ``spot``, or that of ``margin`` for perpetual futures.
"""
