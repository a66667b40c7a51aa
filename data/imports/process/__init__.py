"""Reading of files in a process of its own, so that no file disturbs who imports it.

``FileReader`` starts the process and asks it; ``python -m candlestep.data.imports.process.reading``
is its program.
"""
