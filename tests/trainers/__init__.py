"""Checks with real trainers, in environments of their own: ``make rl-check``."""
