"""Homes with the sample market, and a client whose calls must have the expected status."""

import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import httpx

from candlestep.data.imports.sample import load_sample
from candlestep.data.imports.storing.changes import latest_import
from candlestep.data.market.candle_cache import CandleCache, CandleRequest
from candlestep.data.records.accounts import create_key, ensure_account, revoke_key
from candlestep.data.store.database import FILE_NAME, Store
from candlestep.sandbox import Market
from tests.support.patience import PATIENCE

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
    """Put a store with the sample market, 60 days of minutes from 2025-01-01, into ``home``."""
    home.mkdir(parents=True, exist_ok=True)
    (home / FILE_NAME).write_bytes(_sample_store())
    return home


def sample_market_of(home: Path, symbol: str, span: tuple[int, int]) -> Market:
    """Return a symbol's market as in a session of that span; no server may run on ``home``."""
    store = Store.open(home)
    cache = CandleCache(store, 1 << 30)
    candles = cache.candles(CandleRequest("binance", [symbol], latest_import(store), *span))
    store.close()
    return Market(candles.values())


def make_key(home: Path, account: str, *, revoked: bool = False, is_admin: bool = False) -> str:
    """Create a key of an account; no server may run on ``home``."""
    store = Store.open(home)
    account_id = ensure_account(store, account).account_id
    key, secret = create_key(store, account_id, "test", is_admin=is_admin)
    if revoked:
        revoke_key(store, key.key_id)
    store.close()
    return secret


class Api:
    """A client of the API; every call must have the expected status."""

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
        """Make a call and return its decoded answer; an error must have the shape of all errors."""
        answer = self.client.request(method, path, json=body, params=query or None)
        assert answer.status_code == expect, (method, path, body, answer.status_code, answer.text)
        decoded = answer.json()
        if expect >= 400:
            check_error(answer)
        return decoded

    def create(self, start: str, end: str, **config: Any) -> str:
        """Create a session from day ``start`` to day ``end``, such as 01-15; return its id."""
        body = {"start_time": _time(start), "end_time": _time(end), **config}
        session_id: str = self.post(f"{BACKTEST}/create", body)["session_id"]
        return session_id

    def started(self, start: str = "01-15", end: str = "01-16", **config: Any) -> str:
        """Create and start a session; return its id."""
        session_id = self.create(start, end, **config)
        self.post(f"{BACKTEST}/{session_id}/start")
        return session_id

    def step(self, session_id: str, steps: int = 1, expect: int = 200) -> Any:
        return self.post(f"{BACKTEST}/{session_id}/step/batch", {"steps": steps}, expect)

    def order(self, session_id: str, expect: int = 201, **order: Any) -> Any:
        """Place an order: a market buy of 0.01 BTCUSDT, except for the fields of ``order``."""
        body = {"symbol": "BTCUSDT", "side": "buy", "type": "market", "quantity": "0.01"} | order
        return self.post(f"{BACKTEST}/{session_id}/trade/order", body, expect)

    def read(self, session_id: str, what: str, expect: int = 200, **query: Any) -> Any:
        return self.get(f"{BACKTEST}/{session_id}/{what}", expect, **query)


def finished(api: Api, job_id: str) -> Any:
    """Wait for a job to end, and return it."""
    return wait_for(lambda: api.get(f"{BACKTEST}/jobs/{job_id}"), has_ended)


def has_ended(job: Mapping[str, Any]) -> bool:
    """Return whether a job is neither queued nor running."""
    return job["status"] not in ("queued", "running")


def wait_for(read: Callable[[], T], is_expected: Callable[[T], object]) -> T:
    """Read a value until it is as expected, and return it; fail if it never is."""
    until = time.monotonic() + PATIENCE
    while not is_expected(value := read()):
        assert time.monotonic() < until, value
        time.sleep(0.02)
    return value


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check the status and the code of an error, and return its details."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    details: dict[str, Any] = check_error(answer)["details"]
    return details


def check_error(answer: httpx.Response) -> dict[str, Any]:
    """Check that an error has the shape of all errors, and return it."""
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json()
    assert set(error) == ERROR_KEYS
    assert error["success"] is False
    as_object = {name: error[name] for name in ("code", "message", "details")}
    assert error["error"] in (error["code"], as_object)
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["details"], dict)
    assert error["timestamp"].endswith("Z")
    assert error["request_id"] == answer.headers["x-request-id"]
    return error


def _time(day: str) -> str:
    """Return 2025-01-15T00:00:00Z for 01-15, and anything longer unchanged."""
    return f"2025-{day}T00:00:00Z" if len(day) == len("01-15") else day
