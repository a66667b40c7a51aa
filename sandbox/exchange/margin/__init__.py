"""Perpetual futures: margin tiers, the margin account, its funding, and when it is liquidated."""
