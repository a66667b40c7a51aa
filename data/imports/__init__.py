"""Candle files and downloads, made into checked columns and stored as numbered imports.

``import_file`` imports a file, ``fetch_month`` downloads one from the public archive, and
``load_sample`` imports the synthetic sample market.
"""
