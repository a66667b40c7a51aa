"""Candles in and results out: the DuckDB store, importers, the sample market."""
