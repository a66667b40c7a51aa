"""The progress of a run, and its cancellation."""

from collections.abc import Callable

from candlestep.sandbox.errors import SandboxError

_POLL_EVERY = 32


class Cancelled(SandboxError):
    """A run that stopped because it was cancelled."""

    code = "CANCELLED"

    def __init__(self) -> None:
        super().__init__("the run was cancelled; run the strategy again to get its result")


class RunProgress:
    """Reports the progress of a run in hundredths, and raises ``Cancelled`` when it is cancelled."""

    def __init__(
        self,
        total_steps: int,
        on_progress: Callable[[float], object] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self._total_steps = total_steps
        self._on_progress = on_progress
        self._cancelled = cancelled
        self._reported = -1
        self._polls = 0
        self.poll_now()

    def at(self, step: int) -> None:
        """Report that the run has come to ``step``; costs a microsecond, so call it often."""
        percent = step * 100 // self._total_steps
        if percent > self._reported:
            self._reported = percent
            if self._on_progress is not None:
                self._on_progress(percent / 100)
        self.poll()

    def poll(self) -> bool:
        """Check for cancellation at every 32nd call; return False, which lets Starlark go on."""
        self._polls += 1
        if self._polls % _POLL_EVERY == 0:
            self.poll_now()
        return False

    def poll_now(self) -> None:
        """Raise ``Cancelled`` if the run is cancelled."""
        if self._cancelled is not None and self._cancelled():
            raise Cancelled()
