"""Maintenance operations on a store: candles, instruments, keys and recordings.

Each operation runs in the calling process, or in the server that has the store open:
``running_server.run_operation`` finds out which. ``file_imports`` runs imports for clients of the
server.
"""
