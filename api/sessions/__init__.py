"""Hosting: sessions in memory, journaled, recovered, forked and evicted, without any HTTP.

Doors change a session by a command, through ``SessionHost.apply``; the change is in the session's
journal before the reply is returned. Bounds of the server (span, pairs, pending orders) are
checked here, for every door.
"""
