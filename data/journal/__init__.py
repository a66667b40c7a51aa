"""Journals of sessions, and recordings, which have the same format.

``Journals`` creates, opens and reads the journals of a home; ``records`` has the structs of their
lines, ``recording`` reads and writes them, and ``compaction`` makes them shorter.
"""
