"""Tools for language models over MCP: each is a translation to commands and readings of the server.

``tools`` lists them; ``endpoint`` answers ``POST /mcp``. Only ``server`` loads the SDK, the first
time that somebody asks for the path. No rule of trading is here.
"""
