"""Readers of every format of candle files: text, JSON, Parquet, Arrow; packed or not."""
