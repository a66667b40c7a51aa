"""Files of runs, as Parquet under the home directory.

``run_files`` writes, reads and deletes equity, trades and signals; ``exports`` converts equity and
trades for the Backtests API.
"""
