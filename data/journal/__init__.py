"""Journals of sessions, and recordings, which have the same format.

``Journals`` creates, opens and reads the journals of a home. ``records`` defines the file format:
a struct for each kind of line. ``recording`` reads and writes lines, ``compaction`` shortens files.
"""
