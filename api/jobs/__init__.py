"""Strategies run as jobs: planned, queued, and run by workers here or on a Ray cluster.

A request is planned into a ``RunSpec`` (``planning``), ``JobQueue`` takes turns among accounts and
stores jobs, an ``Executor`` runs them, and ``execute_run`` is what a worker does. Knows no HTTP.
"""
