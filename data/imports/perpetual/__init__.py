"""Data of perpetuals besides candles: funding rates, margin tiers, and the lines that keep them."""
