"""Maintenance operations on a store: candles, keys and recordings.

Each operation runs in the calling process, or in the server that has the store open:
``running_server.run_operation`` finds out which.
"""
