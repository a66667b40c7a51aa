"""The store: one DuckDB file in the home, written by one thread at a time.

``Store.open(home)`` migrates and opens it; ``rows`` and ``arrays`` read, and ``execute`` and
``insert`` write inside ``with store.transaction():``.
"""
