"""Views for people: sessions, runs, comparisons, sweeps and data as plain values and as HTML.

A ``View`` has the texts of a page: of a session, a job, a backtest, a run or a recording.
``html`` renders views with the templates here; the server's pages, the files of ``candlestep plot``
and the tables of ``candlestep show`` are all made of them.
"""
