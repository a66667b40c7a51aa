"""Evaluations: one agent over a table of sessions, open, blind, mirrored and bootstrapped.

``plan`` reads the table, ``agents`` runs the agent on one session, ``evaluate`` goes through all of
them on a server, ``statistics`` says what follows, and ``report`` writes it down.
"""
