"""An import of candles whose process is killed just before it is committed.

Run as ``python -m tests.support.killed_import HOME FILE``.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

from candlestep.api.admin.candles import IMPORT, ImportFiles
from candlestep.api.admin.operation import OpenHome
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.store.database import Part, Store


class DyingStore(Store):
    """A store that kills its process where it would commit a transaction."""

    is_dying = False

    @contextmanager
    def transaction(self, *parts: Part) -> Iterator[None]:
        """Run a transaction up to its end, but do not commit it."""
        with super().transaction(*parts):
            yield
            if self.is_dying:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    home, file = sys.argv[1:]
    with closing(DyingStore.open(home)) as store:
        store.is_dying = True
        opened = OpenHome(store, CandleCache(store, 1 << 30).parts)
        IMPORT.run(opened, ImportFiles([file]), lambda progress: None)
