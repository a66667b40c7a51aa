"""What every handler works with, made once when the server starts."""

from collections.abc import Callable
from typing import Any, TypeVar

from api.access import Gate
from api.counters import Counters
from api.executors import job_queue
from api.hub import Hub
from api.live import Live
from api.routing import Call
from api.settings import Settings
from data.catalogue import Catalogue
from data.store import Store

Result = TypeVar("Result")


class Server:
    """What handlers work with: the settings, the store and what is known of it, the sessions."""

    def __init__(self, settings: Settings, store: Store, gate: Gate, most_files: int) -> None:
        self.settings = settings
        self.store = store
        self.gate = gate
        self.catalogue = Catalogue(store)
        self.hub = Hub(settings, store, most_files)
        self.jobs = job_queue(settings, store, self.hub.cache, self.hub.in_thread)
        self.counters = Counters()
        self.executing: set[str] = set()
        """The ids of backtests whose execution is being queued right now."""

    async def live(self, call: Call) -> Live:
        """The session that the call's path names; raises as ``Hub.find`` does."""
        session_id = call.path["session_id"]
        live = self.hub.in_memory(call.account_id, session_id)
        return live or await self.hub.find(call.account_id, session_id)

    async def in_thread(self, work: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Do work that blocks off the event loop."""
        return await self.hub.in_thread(work, *args, **kwargs)
