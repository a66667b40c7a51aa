"""The files that ``candlestep drive`` puts into the process of a bot: a clock that steps the session.

``on_path`` is put on the bot's ``PYTHONPATH``. Its ``sitecustomize.py`` is imported by Python as it
starts, in the bot's own environment, so that nothing else of Candlestep is there.
"""
