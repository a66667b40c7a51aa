"""Dialects: the API of an exchange, translated to the commands of a session.

No rule of trading lives here. What a client of an exchange sends becomes native commands, and what
a session answers is written as that exchange writes it.
"""
