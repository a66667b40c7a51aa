"""Records of the store: accounts, instruments, sessions, results, jobs, backtests and strategies.

Each module has the structs of its tables and the functions that save, load and list them. All
take a ``Store``, and, except for the instruments that all share, an account, so that nobody sees
the records of another account.
"""
