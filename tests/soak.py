"""Keep a server busy for a long time, and show that nothing of it grows without bound.

``make soak`` runs it for half an hour; ``python -m tests.soak MINUTES`` for as long as you like.
It prints a line of figures at a time, and fails if from the second quarter to the last memory,
descriptors or threads have grown, or what a request takes: time, or space in the store and the
journals. Memory is judged without the size of the store, whose blocks DuckDB keeps once they are
read. It fails too if a request was answered with an error of the server. Memory, descriptors and
threads are read from /proc, so it runs on Linux.
"""

import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from candlestep.data.store.database import FILE_NAME
from tests.support.api_client import BACKTEST, sample_home
from tests.support.server_process import COMMAND, RunningServer, running

MINUTES = 30
SESSIONS = 300
CLIENTS = 8
WATCHERS = 4
SAMPLES = 60
"""The number of lines that are printed."""
POLL_SECONDS = 1.0
"""How often an open page asks whether its session has changed."""
POLLS = 10
"""How often a watcher asks before it opens the page of another session."""
MOST_GROWTH = 1.15
"""How much more memory, descriptors or threads the last quarter may take than the second."""
MOST_GROWTH_A_REQUEST = 1.5
"""How much more time or space a request of the last quarter may take than one of the second."""

CONFIG: dict[str, Any] = {
    "start_time": "2025-01-10T00:00:00Z",
    "end_time": "2025-01-20T00:00:00Z",
    "starting_balance": "10000",
    "pairs": ["BTCUSDT", "ETHUSDT"],
}
JOB: dict[str, Any] = {
    "template_id": "tpl_sma_cross",
    "params": {},
    "symbols": ["BTCUSDT"],
    "timeframe": "1h",
    "start": "2025-01-02T00:00:00Z",
    "end": "2025-01-12T00:00:00Z",
    "capital": "10000",
}
WATCHED = ("status", "account/portfolio", "trade/orders", "market/prices", "market/candles/BTCUSDT")

HEADER = (
    "minute", "requests", "p50 ms", "p99 ms", "p99.9 ms", "memory MB", "descriptors", "threads",
    "store MB", "journals MB",
)  # fmt: skip


class Sample(NamedTuple):
    """The figures of a server at one time, and of the requests since the sample before."""

    minute: float
    seconds: Sequence[float]
    """The duration of each request, sorted."""
    memory: int
    descriptors: int
    threads: int
    store: int
    journals: int

    def slowest(self, share: float) -> float:
        """Return the duration, in seconds, that ``share`` of the requests stay below."""
        return self.seconds[int(share * (len(self.seconds) - 1))]

    def line(self) -> str:
        """Return the figures as a line of the table."""
        slowest = [self.slowest(share) for share in (0.5, 0.99, 0.999)]
        cells = [
            f"{self.minute:.1f}",
            f"{len(self.seconds)}",
            *(f"{seconds * 1000:.1f}" for seconds in slowest),
            f"{self.memory / 1e6:.0f}",
            f"{self.descriptors}",
            f"{self.threads}",
            f"{self.store / 1e6:.1f}",
            f"{self.journals / 1e6:.1f}",
        ]
        return _aligned(cells)


class Client(threading.Thread):
    """A client that steps, trades, forks, watches and ends its share of the sessions, at random."""

    def __init__(self, url: str, seed: int, sessions: int) -> None:
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self.faults: list[str] = []
        self.started: list[str] = []
        """Every session that it has started, the latest last."""
        self._random = random.Random(seed)
        self._most = sessions
        self._url = url
        self._sessions: list[str] = []
        self._durations: list[float] = []
        self._lock = threading.Lock()

    def durations(self) -> list[float]:
        """Return the durations of the requests since the last call, in seconds."""
        with self._lock:
            durations, self._durations = self._durations, []
        return durations

    def run(self) -> None:
        """Send requests until the soak is over."""
        with httpx.Client(base_url=self._url, trust_env=False, timeout=60) as http:
            try:
                while not self.stopped.is_set():
                    if len(self._sessions) < self._most:
                        self._begin(http)
                    else:
                        self._act(http, self._random.choice(self._sessions))
            except Exception as error:
                self.faults.append(f"a client ended: {error!r}")
                raise

    def _begin(self, http: httpx.Client) -> None:
        created = self._send(http, "POST", "create", CONFIG)
        session_id = created.json()["session_id"]
        self._send(http, "POST", f"{session_id}/start")
        self._sessions.append(session_id)
        self.started.append(session_id)

    def _act(self, http: httpx.Client, session_id: str) -> None:
        draw = self._random.random()
        if draw < 0.6:
            answer = self._send(http, "POST", f"{session_id}/step")
        elif draw < 0.75:
            steps = {"steps": self._random.randint(2, 600)}
            answer = self._send(http, "POST", f"{session_id}/step/batch", steps)
        elif draw < 0.88:
            answer = self._send(http, "POST", f"{session_id}/trade/order", self._order())
        elif draw < 0.98:
            answer = self._send(http, "GET", f"{session_id}/{self._random.choice(WATCHED)}")
        elif draw < 0.985:
            answer = self._send(http, "POST", f"{session_id}/fork", {"count": 1})
            if answer.is_success:
                [fork] = answer.json()["forks"]
                self._send(http, "POST", f"{fork['session_id']}/cancel")
        elif draw < 0.99:
            answer = self._send(http, "POST", "jobs", JOB)
        elif draw < 0.995:
            answer = self._send(http, "GET", "list?limit=20")
        else:
            answer = self._send(http, "POST", f"{session_id}/cancel")
        if answer.status_code == 409 or answer.url.path.endswith("/cancel"):
            self._sessions.remove(session_id)

    def _order(self) -> dict[str, Any]:
        side = self._random.choice(("buy", "sell"))
        order = {"symbol": "BTCUSDT", "side": side, "quantity": "0.001"}
        if self._random.random() < 0.5:
            price = self._random.choice((1_000, 10_000_000))
            order |= {"type": "limit", "price": str(price)}
        return order

    def _send(
        self, http: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None
    ) -> httpx.Response:
        began = time.perf_counter()
        answer = http.request(method, f"{BACKTEST}/{path}", json=body)
        with self._lock:
            self._durations.append(time.perf_counter() - began)
        if answer.status_code >= 500:
            self.faults.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer


class Watcher(threading.Thread):
    """A browser that shows the pages of one of the clients' sessions after another, live."""

    def __init__(self, url: str, seed: int, clients: Sequence[Client]) -> None:
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self.faults: list[str] = []
        self._random = random.Random(seed)
        self._url = url
        self._clients = clients

    def run(self) -> None:
        """Look at pages until the soak is over."""
        with httpx.Client(base_url=self._url, trust_env=False, timeout=60) as http:
            try:
                while not self.stopped.wait(POLL_SECONDS):
                    self._show(http, "/")
                    started = self._random.choice(self._clients).started[-SESSIONS // CLIENTS :]
                    if started:
                        self._watch(http, self._random.choice(started))
            except Exception as error:
                self.faults.append(f"a watcher ended: {error!r}")
                raise

    def _watch(self, http: httpx.Client, session_id: str) -> None:
        """Ask for a session's state as its page does, and for what is shown when it has changed."""
        known = ""
        for _ in range(POLLS):
            state = self._show(http, f"/sessions/{session_id}/state")
            if state != known:
                self._show(http, f"/sessions/{session_id}")
                self._show(http, f"{BACKTEST}/{session_id}/figure.json")
            known = state
            if self.stopped.wait(POLL_SECONDS):
                return

    def _show(self, http: httpx.Client, path: str) -> str:
        answer = http.get(path)
        # A session on disk that others are waiting for is "busy, try again", in words.
        if not answer.is_success and answer.status_code != 429:
            self.faults.append(f"GET {path}: {answer.status_code} {answer.text[:200]}")
        return answer.text


def soak(home: Path, minutes: float, show: Callable[[str], object] = print) -> list[str]:
    """Keep a server on ``home`` busy; return what was wrong with it, at best nothing."""
    samples: list[Sample] = []
    with running(sample_home(home), command=COMMAND) as server:
        clients = [Client(server.url, seed, SESSIONS // CLIENTS) for seed in range(CLIENTS)]
        watchers = [Watcher(server.url, seed, clients) for seed in range(WATCHERS)]
        actors: list[Client | Watcher] = [*clients, *watchers]
        for actor in actors:
            actor.start()
        show(_aligned(HEADER))
        began = time.monotonic()
        pause = threading.Event()
        while len(samples) < SAMPLES:
            pause.wait(began + (len(samples) + 1) * minutes * 60 / SAMPLES - time.monotonic())
            seconds = sorted(part for client in clients for part in client.durations())
            samples.append(_sample(server, (time.monotonic() - began) / 60, seconds))
            show(samples[-1].line())
        for actor in actors:
            actor.stopped.set()
        for actor in actors:
            actor.join(60)
        faults = [fault for actor in actors for fault in actor.faults]
    return [*faults[:20], *_growth(samples)]


def _sample(server: RunningServer, minute: float, seconds: list[float]) -> Sample:
    process = Path(f"/proc/{server.process.pid}")
    status = dict(
        line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
    )
    files = [server.home / FILE_NAME, server.home / f"{FILE_NAME}.wal"]
    return Sample(
        minute,
        seconds or [0.0],
        int(status["VmRSS"].split()[0]) * 1024,
        len(list((process / "fd").iterdir())),
        int(status["Threads"]),
        sum(file.stat().st_size for file in files if file.exists()),
        sum(file.stat().st_size for file in (server.home / "journals").iterdir()),
    )


def _growth(samples: Sequence[Sample]) -> list[str]:
    """Return what the last quarter of the samples has, or takes, more of than the second."""
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]
    rows: list[tuple[str, float, Callable[[Sequence[Sample]], float]]] = [
        (
            "memory beside the store",
            MOST_GROWTH,
            _median(lambda sample: sample.memory - sample.store),
        ),
        ("descriptors", MOST_GROWTH, _median(lambda sample: sample.descriptors)),
        ("threads", MOST_GROWTH, _median(lambda sample: sample.threads)),
        ("p50 (s)", MOST_GROWTH_A_REQUEST, _median(lambda sample: sample.slowest(0.5))),
        ("p99 (s)", MOST_GROWTH_A_REQUEST, _median(lambda sample: sample.slowest(0.99))),
        ("bytes a request, store", MOST_GROWTH_A_REQUEST, _added(lambda sample: sample.store)),
        (
            "bytes a request, journals",
            MOST_GROWTH_A_REQUEST,
            _added(lambda sample: sample.journals),
        ),
    ]
    return [
        f"{name}: {level(second):.4g} in the second quarter, {level(last):.4g} in the last"
        for name, most, level in rows
        if level(last) > level(second) * most
    ]


def _median(figure: Callable[[Sample], float]) -> Callable[[Sequence[Sample]], float]:
    """Return the median of a figure, as a function of the samples."""
    return lambda samples: statistics.median(map(figure, samples))


def _added(size: Callable[[Sample], int]) -> Callable[[Sequence[Sample]], float]:
    """Return by how many bytes a size grew for each request, as a function of the samples."""

    def added(samples: Sequence[Sample]) -> float:
        requests = sum(len(sample.seconds) for sample in samples[1:])
        return max(0, size(samples[-1]) - size(samples[0])) / max(requests, 1)

    return added


def _aligned(cells: Sequence[str]) -> str:
    return "  ".join(f"{cell:>11}" for cell in cells)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        problems = soak(Path(directory) / "home", float(sys.argv[1]) if sys.argv[1:] else MINUTES)
    sys.exit("\n".join(problems) or None)
