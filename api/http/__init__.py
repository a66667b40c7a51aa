"""HTTP without trading: routes and APIs as values, errors, keys and tokens, metrics, OpenAPI.

``Api`` groups the routes that share conventions, such as the status of refusals. ``error_body`` is
the one shape of errors; an API whose errors look different would need a convention of its own here.
"""
