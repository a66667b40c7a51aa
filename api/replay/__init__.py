"""Replay of recordings: run the commands of a session again and compare the replies.

``replay`` compares, ``re_record`` writes the replies of today; both play on a ``ReplayTarget``, a
session of this process (``LocalTarget``) or of a server (``RemoteTarget``).
"""
