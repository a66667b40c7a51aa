"""Replay of recordings: run the commands of a session again and compare the replies.

``replay`` compares and explains the first ``difference``, ``re_record`` writes a recording with the
current replies. Both play on a ``ReplayTarget``: a session in this process (``LocalTarget``) or on
a server (``RemoteTarget``). ``order_file`` reads orders with wall-clock times, and
``order_sequence`` places them in a new session, which is recorded.
"""
