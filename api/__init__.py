"""The server and the command line of Candlestep.

``cli`` is the command ``candlestep``, which starts a ``server``. The server's ``routes`` are the
endpoints of its public APIs: they decode and encode ``schemas``, typed JSON, over ``http``, which
knows nothing of trading. They use two services: ``sessions`` hosts the sessions that agents step
(in memory, journaled, recovered after a crash, evicted when idle), and ``jobs`` plans strategy
runs, queues them and has worker processes run them. Neither knows HTTP, so another door meets the
same rules. ``admin`` has the maintenance operations that the command line runs on a store or in
the running server, ``replay`` runs recordings again and compares them, and ``services`` puts all
of it together when a server starts.
"""
