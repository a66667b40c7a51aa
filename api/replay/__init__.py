"""Replay of recordings: run the commands of a session again and compare the replies.

``replay`` compares, ``re_record`` writes a recording with the current replies. Both play on a
``ReplayTarget``: a session in this process (``LocalTarget``) or on a server (``RemoteTarget``).
"""
