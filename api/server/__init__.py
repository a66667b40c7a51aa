"""The server process: an ASGI application for every route, run by uvicorn.

``app`` authenticates, decodes, calls the handler and sends its answer or error; ``routing`` finds
the endpoint of a path; ``process`` starts the server and stops it.
"""
