"""A session's page in a real browser, against a bare page that draws the same candles with plotly."""

import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path

import httpx
import msgspec
from playwright.sync_api import Browser, Page

from candlestep.data.store.database import Store
from candlestep.sandbox import format_time
from tests.benchmarks.market import END, START, synthetic_year
from tests.benchmarks.over_http import fill_store
from tests.benchmarks.table import Row
from tests.support.api_client import Api
from tests.support.browser import chromium
from tests.support.server_process import COMMAND, RunningServer, running

FILLS = 10_000
WATCHERS = 10
SECONDS = 2.0
_ROUNDS = 5
_ZOOMS = 21
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_STEPS_BETWEEN = 52

_BARE = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>bare</title></head><body>
<div id="chart" style="height:760px"></div><script src="plotly.js"></script>
<script src="data.js"></script><script>
Plotly.newPlot("chart", [{type: "candlestick", ...candles}], {xaxis: {type: "date", rangeslider: {visible: false}}})
  .then(() => { document.body.dataset.drawn = 1; });
</script></body></html>"""


def rows() -> list[Row]:
    """Return the rows of the speed table; without Chromium none."""
    if not any(map(shutil.which, _NAMES)):
        return []
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "home"
        store = Store.open(home)
        fill_store(store, synthetic_year("BTCUSDT"))
        store.close()
        with (
            running(home, "--memory-budget", "4GiB", command=COMMAND) as server,
            server.client() as client,
        ):
            api = Api(client)
            session_id = _traded_year(api)
            path = f"{server.url}/sessions/{session_id}"
            with _bare_page(client, session_id, Path(directory)) as bare, chromium() as browser:
                found = _in_browser(browser, path, bare)
            return [*found, _server_share(client, session_id), _watched_stepping(server, api)]


def _traded_year(api: Api) -> str:
    """Return a session of a year of minutes with 10,000 fills."""
    session_id = api.started(
        format_time(START), format_time(END), pairs=["BTCUSDT"], starting_balance="1000000"
    )
    for number in range(FILLS):
        api.order(session_id, side="sell" if number % 2 else "buy", quantity="0.1")
        api.step(session_id, _STEPS_BETWEEN)
    api.step(session_id, 10**6)
    return session_id


@contextmanager
def _bare_page(client: httpx.Client, session_id: str, directory: Path) -> Iterator[str]:
    """Serve a page that draws the candles of the session's chart, and nothing else."""
    folder = directory / "bare"
    folder.mkdir()
    chart = client.get(f"/api/v1/backtest/{session_id}/figure.json").json()
    candles = {name: chart["data"][0][name] for name in ("x", "open", "high", "low", "close")}
    (folder / "data.js").write_bytes(b"const candles = " + msgspec.json.encode(candles) + b";")
    library = resources.files("plotly") / "package_data" / "plotly.min.js"
    (folder / "plotly.js").write_bytes(library.read_bytes())
    (folder / "index.html").write_text(_BARE)
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
        finally:
            server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def _in_browser(browser: Browser, path: str, bare: str) -> list[Row]:
    ours_ready = "() => document.querySelector('[data-figure]')?.dataset.drawn"
    bare_ready = "() => document.body?.dataset.drawn"
    cold = [(_cold(browser, path, ours_ready), _cold(browser, bare, bare_ready)) for _ in range(3)]
    with browser.new_page() as ours, browser.new_page() as theirs:
        _ready(ours, path, ours_ready)
        _ready(theirs, bare, bare_ready)
        warm = [
            (_ready(ours, path, ours_ready), _ready(theirs, bare, bare_ready))
            for _ in range(_ROUNDS)
        ]
        zooms = [(_zoom_ours(ours), _zoom_bare(theirs)) for _ in range(_ZOOMS)]
    return [
        _against("the page of a year with 10,000 fills, ready: cold", cold),
        _against("the same, warm", warm),
        _against("a zoom into a month of it", zooms),
    ]


def _against(what: str, pairs: list[tuple[float, float]]) -> Row:
    ours, bare = (statistics.median(values) for values in zip(*pairs, strict=True))
    return Row(
        what,
        f"{ours * 1e3:.0f} ms",
        f"{bare * 1e3:.0f} ms, a bare plotly page of the candles",
        f"{ours / bare:.2f} ×",
        "≤ 1.5 ×",
        ours <= 1.5 * bare,
    )


def _cold(browser: Browser, url: str, ready: str) -> float:
    """Return the seconds to a drawn page in a browser that has nothing in its cache."""
    with browser.new_context() as context:
        return _ready(context.new_page(), url, ready)


def _ready(page: Page, url: str, ready: str) -> float:
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_function(ready)
    return time.perf_counter() - began


def _zoom_ours(page: Page) -> float:
    """Zoom as a drag does, and return the seconds until the finer candles are drawn."""
    milliseconds: float = page.evaluate(
        """async () => {
          const chart = document.querySelector('[data-figure]');
          // Not asked for with a timer, which would add up to 4 ms to it.
          const drawn = new Promise((done) =>
            new MutationObserver(done).observe(chart, { attributeFilter: ["data-drawn"] }));
          const start = Date.UTC(2024, 2, 1) + Math.random() * 1e10;
          const began = performance.now();
          await Plotly.relayout(chart, { "xaxis.range[0]": start, "xaxis.range[1]": start + 26e8 });
          await drawn;
          return performance.now() - began;
        }"""
    )
    return milliseconds / 1e3


def _zoom_bare(page: Page) -> float:
    milliseconds: float = page.evaluate(
        """async () => {
          const start = Date.UTC(2024, 2, 1) + Math.random() * 1e10;
          const began = performance.now();
          await Plotly.relayout("chart", { "xaxis.range[0]": start, "xaxis.range[1]": start + 26e8 });
          return performance.now() - began;
        }"""
    )
    return milliseconds / 1e3


def _server_share(client: httpx.Client, session_id: str) -> Row:
    def read(path: str) -> float:
        began = time.perf_counter()
        client.get(path).raise_for_status()
        return time.perf_counter() - began

    page = statistics.median(read(f"/sessions/{session_id}?orders={n}") for n in range(1, 8))
    chart = statistics.median(
        read(
            f"/api/v1/backtest/{session_id}/figure.json?start_time={format_time(START + n * 10**7)}"
        )
        for n in range(7)
    )
    return Row(
        "the server's share of it: the page · the chart",
        f"{page * 1e3:.0f} ms · {chart * 1e3:.0f} ms",
        "",
        "",
        "≤ 150 ms together",
        page + chart <= 0.15,
    )


def _watched_stepping(server: RunningServer, api: Api) -> Row:
    """Measure single steps of one session alone, and next to ten watchers of it, in turns."""
    pairs = [(_step_rate(api, _new(api)), _watched_rate(server, api)) for _ in range(_ROUNDS)]
    alone, watched = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    return Row(
        "single steps over HTTP next to ten watchers of the session",
        f"{watched:,.0f} steps/s",
        f"{alone:,.0f} steps/s without",
        f"{watched / alone:.2f} ×",
        "≥ 0.9 ×",
        watched >= 0.9 * alone,
    )


def _watched_rate(server: RunningServer, api: Api) -> float:
    session_id = _new(api)
    stop, looking = threading.Event(), threading.Barrier(WATCHERS + 1)
    arguments = (server, session_id, looking, stop)
    watchers = [threading.Thread(target=_watch, args=arguments) for _ in range(WATCHERS)]
    for thread in watchers:
        thread.start()
    # To make a client takes longer than all that it reads.
    looking.wait()
    try:
        return _step_rate(api, session_id)
    finally:
        stop.set()
        for thread in watchers:
            thread.join()


def _new(api: Api) -> str:
    return api.started(format_time(START), format_time(END), pairs=["BTCUSDT"])


def _step_rate(api: Api, session_id: str) -> float:
    path, steps = f"/api/v1/backtest/{session_id}/step", 0
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        api.client.post(path)
        steps += 1
    return steps / SECONDS


def _watch(
    server: RunningServer, session_id: str, looking: threading.Barrier, stop: threading.Event
) -> None:
    """Read what an open page reads, every second."""
    known = None
    with server.client() as client:
        looking.wait()
        while not stop.is_set():
            state = client.get(f"/sessions/{session_id}/state").json()
            if state != known:
                client.get(f"/sessions/{session_id}")
                client.get(f"/api/v1/backtest/{session_id}/figure.json")
            known = state
            stop.wait(1.0)
