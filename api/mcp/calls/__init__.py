"""The work of the tools: each function takes checked arguments and returns an answer."""
