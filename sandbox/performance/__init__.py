"""Performance: equity, metrics, closed trades and results, derived from a session after the fact.

Every figure is computed here, in one place, for sessions, jobs, engines and reports alike: a new
one goes into ``metrics`` and, with its unit, into the table in ``figures``. Pictures are made of a
``TradingRecord``: ``chart_columns`` chooses what is drawn, ``charts`` draws it as Plotly's JSON.
"""
