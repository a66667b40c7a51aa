"""Clients of Binance against a server of the sample market: ``make clients-check``.

``check`` runs the scripts in an environment of their own, and keeps what the clients sent in
``tests/fixtures/clients.json``, which the tests replay without the clients.
"""
