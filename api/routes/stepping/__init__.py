"""The stepping API: agents create sessions, step them, place orders and read the results."""
