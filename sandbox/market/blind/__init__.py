"""Blind markets: the same candles under other names, at other times and other prices, by a seed.

An agent that has read the history of a market recognises it by its symbols, its dates and its
prices. A ``Disguise`` changes all three, and ``disguised_parts`` applies it to candles, mark prices
and funding rates together. Variants change what happens as well: ``mirror`` turns every return
around, ``bootstrap`` draws whole days anew. The result is a function of the candles and the seed
alone, the same on every machine.
"""
