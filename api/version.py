"""Which version of Candlestep this is."""

from importlib.metadata import version

VERSION = version("candlestep")
