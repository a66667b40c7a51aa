"""Counters of what the server has done, in Prometheus's text format."""

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from api.hub import Hub


class Counters:
    """Requests by route and status, and their seconds."""

    def __init__(self) -> None:
        self._requests: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self._seconds: defaultdict[tuple[str, str], float] = defaultdict(float)

    def count(self, method: str, path: str, status: int, seconds: float) -> None:
        """Note one request to the route ``path`` (with its parameters' names)."""
        self._requests[method, path, status] += 1
        self._seconds[method, path] += seconds

    def text(self, hub: "Hub") -> str:
        """All counters, and the gauges of ``hub``."""
        lines = ["# TYPE candlestep_requests_total counter"]
        lines += [
            f'candlestep_requests_total{{method="{method}",path="{path}",status="{status}"}} {n}'
            for (method, path, status), n in sorted(self._requests.items())
        ]
        lines.append("# TYPE candlestep_request_seconds_total counter")
        lines += [
            f'candlestep_request_seconds_total{{method="{method}",path="{path}"}} {seconds:.6f}'
            for (method, path), seconds in sorted(self._seconds.items())
        ]
        for name, kind, value in (
            ("steps_total", "counter", hub.steps_made),
            ("open_sessions", "gauge", hub.open_sessions),
            ("sessions_in_memory", "gauge", hub.sessions_in_memory),
            ("candle_bytes", "gauge", hub.cache.bytes_in_memory()),
        ):
            lines += [f"# TYPE candlestep_{name} {kind}", f"candlestep_{name} {value}"]
        return "\n".join(lines) + "\n"
