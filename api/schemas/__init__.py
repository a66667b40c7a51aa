"""JSON that several APIs share: typed requests and answers, and how fields are read and written.

``fields`` has amounts, times and symbols, ``decoding`` checks what is received, and ``figures``
selects the metrics that an API reports. JSON of one API alone stays with its routes.
"""
