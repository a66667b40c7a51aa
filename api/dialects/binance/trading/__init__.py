"""Trading: the account, its orders and trades, pairs of orders, and replacements."""
