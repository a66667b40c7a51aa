"""Records of the store: accounts, sessions, results, jobs, backtests and strategies.

Each module has the structs of its tables and the functions that save, load and list them. All
take a ``Store``, and an account, so that nobody sees the records of another account.
"""
