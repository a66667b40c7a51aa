"""The store: one DuckDB file in the home, each part of it written by one thread at a time.

``Store.open(home)`` migrates and opens it; ``rows`` and ``arrays`` read, and ``execute`` and
``insert`` write inside ``with store.transaction():``, or ``store.transaction("candles")`` for those.
"""
