"""What tests say to a server: homes with the sample market, and calls that must succeed."""

import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import httpx

from candlestep.data.imports.importer import latest_import
from candlestep.data.imports.sample import load_sample
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.records.accounts import create_key, ensure_account, revoke_key
from candlestep.data.store.database import FILE_NAME, Store
from candlestep.sandbox import Market

BACKTEST = "/api/v1/backtest"
UNKNOWN_SESSION = "bt_00000000-0000-4000-8000-000000000000"
ERROR_KEYS = {"success", "error", "code", "message", "details", "timestamp", "request_id"}
DAY = {"start_time": "2025-01-15T00:00:00Z", "end_time": "2025-01-16T00:00:00Z"}
ORDER = {"symbol": "BTCUSDT", "side": "buy", "type": "market", "quantity": "0.01"}
JSON = {"Content-Type": "application/json"}

T = TypeVar("T")


@cache
def _sample_store() -> bytes:
    with tempfile.TemporaryDirectory() as home:
        store = Store.open(home)
        load_sample(store)
        store.close()
        return (Path(home) / FILE_NAME).read_bytes()


def sample_home(home: Path) -> Path:
    """``home``, with a store that has the sample market: 60 days of minutes from 2025-01-01."""
    home.mkdir(parents=True, exist_ok=True)
    (home / FILE_NAME).write_bytes(_sample_store())
    return home


def sample_market_of(home: Path, symbol: str, span: tuple[int, int]) -> Market:
    """One symbol's market as a session of that span on ``home`` has it; no server may run there."""
    store = Store.open(home)
    cache = CandleCache(store, 1 << 30)
    candles = cache.candles("binance", [symbol], latest_import(store), *span)
    store.close()
    return Market(candles.values())


def make_key(home: Path, account: str, *, revoked: bool = False) -> str:
    """A new key of an account, made while no server runs on ``home``."""
    store = Store.open(home)
    key, secret = create_key(store, ensure_account(store, account).account_id, "test")
    if revoked:
        revoke_key(store, key.key_id)
    store.close()
    return secret


class Api:
    """The API as a client uses it; every call must have the status that is expected."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def get(self, path: str, expect: int = 200, **query: Any) -> Any:
        return self.call("GET", path, None, expect, query)

    def post(self, path: str, body: Mapping[str, Any] | None = None, expect: int = 200) -> Any:
        return self.call("POST", path, body, expect)

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        expect: int = 200,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        """The answer of one call, decoded; an error must have the shape of all errors."""
        answer = self.client.request(method, path, json=body, params=query or None)
        assert answer.status_code == expect, (method, path, body, answer.status_code, answer.text)
        decoded = answer.json()
        if expect >= 400:
            check_error(answer)
        return decoded

    def create(self, start: str, end: str, **config: Any) -> str:
        """A new session of the sample market's days ``start`` to ``end``, such as 01-15."""
        body = {"start_time": _time(start), "end_time": _time(end), **config}
        session_id: str = self.post(f"{BACKTEST}/create", body)["session_id"]
        return session_id

    def started(self, start: str = "01-15", end: str = "01-16", **config: Any) -> str:
        """A session at step 0."""
        session_id = self.create(start, end, **config)
        self.post(f"{BACKTEST}/{session_id}/start")
        return session_id

    def step(self, session_id: str, steps: int = 1, expect: int = 200) -> Any:
        return self.post(f"{BACKTEST}/{session_id}/step/batch", {"steps": steps}, expect)

    def order(self, session_id: str, expect: int = 201, **order: Any) -> Any:
        """Place an order: of 0.01 BTCUSDT, to be bought at the market, unless it says otherwise."""
        body = {"symbol": "BTCUSDT", "side": "buy", "type": "market", "quantity": "0.01"} | order
        return self.post(f"{BACKTEST}/{session_id}/trade/order", body, expect)

    def read(self, session_id: str, what: str, expect: int = 200, **query: Any) -> Any:
        return self.get(f"{BACKTEST}/{session_id}/{what}", expect, **query)


def finished(api: Api, job_id: str, seconds: float = 30) -> Any:
    """The job when it has ended, asked for again and again, at most for so long."""
    return wait_for(lambda: api.get(f"{BACKTEST}/jobs/{job_id}"), has_ended, seconds)


def has_ended(job: Mapping[str, Any]) -> bool:
    """Whether a job neither waits nor runs any more."""
    return job["status"] not in ("queued", "running")


def wait_for(ask: Callable[[], T], is_so: Callable[[T], object], seconds: float = 30) -> T:
    """The first answer of which it is so, asked for again and again, at most for so long."""
    until = time.monotonic() + seconds
    while not is_so(found := ask()):
        assert time.monotonic() < until, found
        time.sleep(0.02)
    return found


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The details of an error that is as expected."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    details: dict[str, Any] = check_error(answer)["details"]
    return details


def check_error(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer, which has the one shape that errors have."""
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json()
    assert set(error) == ERROR_KEYS
    assert error["success"] is False
    assert error["error"] == error["code"]
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["details"], dict)
    assert error["timestamp"].endswith("Z")
    assert error["request_id"] == answer.headers["x-request-id"]
    return error


def _time(day: str) -> str:
    """2025-01-15T00:00:00Z for 01-15; anything longer stays."""
    return f"2025-{day}T00:00:00Z" if len(day) == len("01-15") else day
