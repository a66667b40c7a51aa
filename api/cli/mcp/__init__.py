"""``candlestep mcp``: the tools for language models over standard input and output."""
