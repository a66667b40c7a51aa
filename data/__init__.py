"""Candles in, results out: everything that Candlestep stores, under one home directory.

- ``imports`` reads candle files and downloads, checks them and stores them as numbered imports;
- ``market`` lists the candles that are stored, and loads them into memory that sessions share;
- ``records`` stores accounts, sessions and their results, jobs, backtests and strategies;
- ``journal`` writes every command of a session to a file before it is acknowledged, and reads
  the recordings from which sessions are recovered and replayed;
- ``run_files`` writes the equity, trades and signals of runs as Parquet;
- ``store`` is the DuckDB file below all of these: connections, transactions and migrations.

``load_market``, ``load_instruments`` and ``read_candles`` give what is imported, and the candles of
a file, to sessions in process. Data depends on ``sandbox``, the simulated exchange, and on nothing
in ``api``.
"""

from candlestep.data.market.loading import (
    load_instruments,
    load_market,
    read_candles,
    read_funding,
)

__all__ = ["load_instruments", "load_market", "read_candles", "read_funding"]
