"""Progress of a run, and its end on request."""

from collections.abc import Callable

from candlestep.sandbox.errors import SandboxError

_POLL_EVERY = 32


class Cancelled(SandboxError):
    """The run was asked to stop, and has."""

    code = "CANCELLED"

    def __init__(self) -> None:
        super().__init__("the run was cancelled; run the strategy again to have its result")


class RunProgress:
    """Tells how far a run is, in hundredths, and raises ``Cancelled`` when it is asked to stop."""

    def __init__(
        self,
        total_steps: int,
        on_progress: Callable[[float], object] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self._total_steps = total_steps
        self._on_progress = on_progress
        self._cancelled = cancelled
        self._told = -1
        self._polls = 0
        self.poll_now()

    def at(self, step: int) -> None:
        """The run has come to ``step``; to be called often, it costs a microsecond."""
        percent = step * 100 // self._total_steps
        if percent > self._told:
            self._told = percent
            if self._on_progress is not None:
                self._on_progress(percent / 100)
        self.poll()

    def poll(self) -> bool:
        """Ask now and then whether to stop."""
        self._polls += 1
        if self._polls % _POLL_EVERY == 0:
            self.poll_now()
        return False

    def poll_now(self) -> None:
        """Ask whether to stop."""
        if self._cancelled is not None and self._cancelled():
            raise Cancelled()
