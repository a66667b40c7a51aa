"""The time that tests give to what must come, whatever the machine is and whatever else it does.

It bounds how long a test that fails may hang, and judges nothing: a test that passes takes as long
as it takes.
"""

PATIENCE = 180
"""Seconds."""
