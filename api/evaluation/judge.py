"""The judge: creates sessions on a server, gives their keys away, and reads what came of them."""

from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from candlestep.api.errors import RefusedByServer
from candlestep.api.evaluation.agents import Access
from candlestep.api.evaluation.plan import Kind, Run
from candlestep.data.errors import NOT_JSON, StorageUnavailable
from candlestep.sandbox import parse_time

_BACKTEST = "/api/v1/backtest"
_SECONDS = 120
_OPEN_SERVER = 409
_PAGE = 1000


class Stance(msgspec.Struct, frozen=True, array_like=True):
    """A change of what is held of a symbol: 1 long, 0 nothing, -1 short, from a time (ms) on."""

    time: int
    symbol: str
    side: int


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of a run."""

    name: str
    kind: Kind
    seed: int | None
    key: str
    """The identity of the run."""
    session_id: str
    error: str | None
    """The reason why the agent failed, or left the session before its end."""
    start: int
    end: int
    """The time of the session, as it shows it, in ms."""
    return_pct: float
    sharpe: float | None
    max_drawdown_pct: float
    trades: int
    fees: float
    slippage: float
    """The cost of slippage, in quote currency."""
    refused: int | None
    """Requests that were refused to the agent, whatever the reason; None without a key of its own."""
    stances: list[Stance]
    rejected: int = 0
    """Orders that were rejected: by a limit of risk, or for want of money at their trigger."""


class Judge:
    """The owner of the sessions of an evaluation, on a server."""

    def __init__(self, url: str, key: str | None) -> None:
        headers = {} if key is None else {"X-API-Key": key}
        self.url = url.rstrip("/")
        # Most servers are on this machine, where the environment's proxies must not be used.
        self._client = httpx.Client(
            base_url=self.url, headers=headers, timeout=_SECONDS, trust_env=False
        )

    def close(self) -> None:
        """End the connections to the server."""
        self._client.close()

    def start(self, run: Run) -> Access:
        """Create and start the session of a run, and make its key, where the server has keys.

        Raises ``RefusedByServer`` and ``StorageUnavailable``.
        """
        session_id: str = self._send("POST", "/create", run.body)["session_id"]
        self._send("POST", f"/{session_id}/start", {})
        answer = self._request("POST", f"/{session_id}/keys", {"name": "evaluation"})
        if answer.status_code == _OPEN_SERVER:
            return Access(self.url, session_id, None)
        return Access(self.url, session_id, self._checked(answer)["key"])

    def end(self, run: Run, access: Access, error: str | None) -> Outcome:
        """Return the outcome of a run, whose session is cancelled if it has not ended."""
        path = f"/{access.session_id}"
        status = self._send("GET", f"{path}/status")
        if status["status"] == "running":
            step, total = status["current_step"], status["total_steps"]
            error = error or f"it left the session at step {step} of {total}"
            self._send("POST", f"{path}/cancel", {})
        results = self._send("GET", f"{path}/results")
        trades = self._send("GET", f"{path}/results/trades")["trades"]
        summary, metrics = results["summary"], results["metrics"]
        return Outcome(
            run.name,
            run.kind,
            run.seed,
            run.key,
            access.session_id,
            error,
            parse_time(results["config"]["start_time"]),
            parse_time(results["config"]["end_time"]),
            float(summary["roi_pct"]),
            metrics["sharpe_ratio"],
            metrics["max_drawdown_pct"],
            summary["total_trades"],
            float(summary["total_fees"]),
            sum(_slippage(trade) for trade in trades),
            None if access.key is None else self._send("GET", f"{path}/keys")["refused"],
            stances(trades),
            self._rejected(path),
        )

    def _rejected(self, path: str) -> int:
        query = {"status": "rejected", "limit": 1}
        total: int = self._send("GET", f"{path}/trade/orders", query=query)["total"]
        return total

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        return self._checked(self._request(method, path, body, query))

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        try:
            return self._client.request(method, f"{_BACKTEST}{path}", json=body, params=query)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise StorageUnavailable(
                f"the server at {self.url} cannot be reached: {error}; `candlestep serve` starts one,"
                " --url names another"
            ) from None

    def _checked(self, answer: httpx.Response) -> dict[str, Any]:
        if not answer.is_success:
            raise RefusedByServer.of_answer(self.url, answer.status_code, answer.content)
        try:
            return msgspec.json.decode(answer.content, type=dict[str, Any])
        except NOT_JSON as error:
            raise RefusedByServer.of_foreign_answer(self.url, error) from None


def stances(trades: list[dict[str, Any]]) -> list[Stance]:
    """Return the changes of the side on which each symbol was held, by its trades in their order."""
    held: dict[str, float] = {}
    changes: list[Stance] = []
    for trade in trades:
        symbol, quantity = trade["symbol"], float(trade["quantity"])
        before = held.get(symbol, 0.0)
        after = round(before + (quantity if trade["side"] == "buy" else -quantity), 9)
        held[symbol] = after
        side = (after > 0) - (after < 0)
        if side != (before > 0) - (before < 0):
            changes.append(Stance(parse_time(trade["simulated_at"]), symbol, side))
    return changes


def _slippage(trade: dict[str, Any]) -> float:
    return float(trade["quote_amount"]) * float(trade["slippage_pct"]) / 100
