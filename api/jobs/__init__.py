"""Strategies run as jobs: planned, queued, and run by workers here or on a Ray cluster.

``planning`` turns a request into a ``RunSpec``, ``JobQueue`` stores jobs and lets accounts take
turns, an ``Executor`` hands their runs to workers, and ``execute_run`` is what a worker does.
Nothing here depends on HTTP.
"""
