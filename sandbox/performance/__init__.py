"""Performance: equity, metrics, closed trades and results, derived from a session after the fact.

Every figure is computed here, exactly once, for sessions, jobs, engines and reports alike.
"""
