"""A store that tells when transactions are asked for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from candlestep.data.store.database import Part, Store


class WatchedStore(Store):
    """A store that tells when transactions are asked for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked_for = threading.Semaphore(0)

    @contextmanager
    def transaction(self, *parts: Part) -> Iterator[None]:
        self.asked_for.release()
        with super().transaction(*parts):
            yield
