"""Files of runs: equity, trades and signals as Parquet, under the home directory.

``run_files`` writes, reads and deletes them; ``exports`` converts equity and trades for the
backtests API.
"""
