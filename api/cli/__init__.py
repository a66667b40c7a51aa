"""The ``candlestep`` command, with each of its commands in a module of its own.

A command parses arguments, has ``api.admin``, ``api.replay`` or ``api.server`` do the work, and
prints the result. ``main`` is the entry point.
"""

from candlestep.api.cli.main import main

__all__ = ["main"]
