"""Rows of imports in the store: numbered, superseded instead of overwritten."""
