"""Hosting: sessions in memory, journaled, recovered, forked and evicted. Independent of HTTP.

Whoever changes a session passes a command to ``SessionHost.apply``; the change is in the session's
journal before the reply is returned. The server's bounds are checked here, so that they hold for
every caller: span and pairs in ``creation``, pending orders in ``hosted_session``. ``recovery``
rebuilds a session from its journal.
"""
