"""Counters of what the server has done, in Prometheus's text format."""

from collections import defaultdict
from collections.abc import Mapping


class Counters:
    """Requests by route and status, and their seconds."""

    def __init__(self) -> None:
        self._requests: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self._seconds: defaultdict[tuple[str, str], float] = defaultdict(float)

    def count(self, method: str, path: str, status: int, seconds: float) -> None:
        """Note one request to the route ``path`` (with its parameters' names)."""
        self._requests[method, path, status] += 1
        self._seconds[method, path] += seconds

    def text(self, steps: int, gauges: Mapping[str, int]) -> str:
        """All counters, that of the steps made included, and gauges by their names."""
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
        lines += ["# TYPE candlestep_steps_total counter", f"candlestep_steps_total {steps}"]
        for name, value in gauges.items():
            lines += [f"# TYPE candlestep_{name} gauge", f"candlestep_{name} {value}"]
        return "\n".join(lines) + "\n"
