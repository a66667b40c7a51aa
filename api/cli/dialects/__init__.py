"""Commands that let clients of an exchange trade in a session of a running server."""
