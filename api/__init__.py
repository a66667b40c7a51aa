"""The server and the command line of Candlestep.

``cli`` is the command ``candlestep``, which starts a ``server``. The server's ``routes`` are the
endpoints of its public APIs: they decode and encode ``schemas``, typed JSON, over ``http``, which
knows nothing of trading. They use two services: ``sessions`` hosts the sessions that agents step
(in memory, journaled, recovered after a crash, evicted when idle), and ``jobs`` plans strategy
runs, queues them and has worker processes run them. Neither knows HTTP, so an entry point other
than HTTP gets the same checks. ``admin`` has the maintenance operations that the command line runs
on a store or in the running server, ``replay`` runs recordings again and compares the replies, and
places files of orders, ``settings`` are the flags and variables of a server, and ``services`` puts everything together
when it starts. ``client`` is a client of
a server, for agents in Python.
"""
