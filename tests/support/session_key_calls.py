"""Everything that a key of a session can ask for, by each door, and all that it is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import httpx

from candlestep.api.dialects.binance.api import ENDPOINTS
from candlestep.api.mcp.resources import RESOURCES
from candlestep.api.mcp.tools import TOOLS
from candlestep.api.routes import ROUTES
from tests.support.api_client import BACKTEST, UNKNOWN_SESSION, Api
from tests.support.binance import Binance
from tests.support.in_process import HostedHome
from tests.support.route_cases import SAMPLES, UNKNOWN_ID

REAL_SYMBOL = "BTCUSDT"
"""A real symbol, which an agent may guess and ask for."""
_MCP_HEADERS = {"Accept": "application/json, text/event-stream"}
_TOOL_ARGUMENTS: dict[str, dict[str, Any]] = {
    "observe": {"indicators": ["rsi:14"], "candles": 30},
    "step": {"steps": 3},
    "history": {"what": "trades"},
}
_READ_AGAIN: dict[str, dict[str, Any]] = {
    "observe": {"symbols": [REAL_SYMBOL]},
    "step": {"steps": 3, "until": "price", "symbol": REAL_SYMBOL, "above": 1},
    "history": {"what": "orders"},
    "act": {"orders": [{"symbol": REAL_SYMBOL, "side": "buy", "quantity": 1}]},
}


class Told:
    """All that the holder of a key was told: headers and bodies, and what succeeded."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.done: set[tuple[str, str]] = set()
        """Method and path of each request that was answered with a success."""

    def note(self, answer: httpx.Response) -> None:
        """Keep an answer, without what the request itself has named."""
        request = answer.request
        text = f"{answer.headers} {answer.read().decode(errors='replace')}"
        if request.url.path.startswith("/binance/") or request.url.path.endswith("/dialect"):
            text = text.replace("/binance/", "/")
        if REAL_SYMBOL in f"{request.url} {request.content!r}":
            text = text.replace(REAL_SYMBOL, "")
        self.texts.append(text)
        if answer.is_success:
            self.done.add((request.method, request.url.path))

    def has_done(self, method: str, path: str) -> bool:
        """Return whether a request of this method succeeded at a path, or below its ``{name}``s."""
        parts = path.split("/")
        return any(
            method == done and len(parts) == len(asked := at.split("/"))
            and all(a == b or b.startswith("{") for a, b in zip(asked, parts, strict=True))
            for done, at in self.done
        )  # fmt: skip


@contextmanager
def agent_of(server: HostedHome, secret: str, told: Told) -> Iterator[Api]:
    """Yield a client with a key of a session, whose every answer is kept."""
    with server.client(secret) as client:
        client.event_hooks = {"response": [told.note]}
        yield Api(client)


def read_everything(agent: Api, session_id: str, symbol: str) -> None:
    """Send a request to every route that reads, or that a key of a session may not call."""
    known = {"session_id": session_id, "file": "trades.csv"}
    for route in ROUTES:
        if route.access == "public" or (route.method != "GET" and route.for_session_key):
            continue
        for name in (symbol, REAL_SYMBOL):
            parameters = dict.fromkeys(route.parameters, UNKNOWN_ID) | SAMPLES | known
            agent.client.request(route.method, route.path.format(**parameters | {"symbol": name}))


def trade_natively(agent: Api, session_id: str, symbol: str) -> None:
    """Send what changes a session: orders of every kind, a refused one, and steps."""
    path = f"{BACKTEST}/{session_id}"
    price = Decimal(agent.read(session_id, f"market/price/{symbol}")["price"])
    size = f"{1000 / price:.2f}"
    limit: dict[str, Any] = {"symbol": symbol, "side": "buy", "type": "limit", "quantity": size}
    low, lower = f"{price * Decimal('0.8'):.2f}", f"{price * Decimal('0.75'):.2f}"
    agent.order(session_id, symbol=symbol, quantity=size)
    resting = agent.order(session_id, **limit, price=low)["order_id"]
    agent.call("PATCH", f"{path}/trade/order/{resting}", {"price": lower}, 200)
    agent.order(session_id, expect=422, symbol=symbol, quantity=10**9)
    agent.order(session_id, expect=422, symbol=symbol, type="limit", quantity="0.1", price="-1")
    sell: dict[str, Any] = {"symbol": symbol, "side": "sell", "quantity": size}
    high = f"{price * Decimal('1.3'):.2f}"
    pair = [sell | {"type": "limit", "price": high}]
    pair += [sell | {"type": "stop_loss", "trigger_price": low}]
    agent.post(f"{path}/trade/oco", {"orders": pair}, expect=201)
    agent.post(f"{path}/turn", {"orders": [limit | {"price": low}], "steps": 2})
    waiting = agent.order(session_id, **limit, price=low)["order_id"]
    agent.call("DELETE", f"{path}/trade/order/{waiting}")
    agent.post(f"{path}/step")
    agent.step(session_id, 100)
    agent.post(f"{path}/step/batch/fast", {"steps": 3})
    agent.post(f"{path}/cancel", expect=403)


def change_margin(agent: Api, session_id: str, symbol: str) -> None:
    """Send what changes the margin of a perpetual."""
    path = f"{BACKTEST}/{session_id}/account"
    of_symbol = {"symbol": symbol}
    agent.post(f"{path}/leverage", of_symbol | {"leverage": 3})
    agent.post(f"{path}/leverage", of_symbol | {"leverage": 10**6}, expect=422)
    agent.post(f"{path}/margin-mode", of_symbol | {"margin_mode": "isolated"})
    price = Decimal(agent.read(session_id, f"market/price/{symbol}")["price"])
    agent.order(session_id, symbol=symbol, quantity=f"{500 / price:.2f}")
    agent.post(f"{path}/margin", of_symbol | {"amount": 5})
    agent.post(f"{path}/leverage", {"symbol": f"{REAL_SYMBOL}-PERP", "leverage": 3}, expect=404)


def use_the_dialect(agent: Api, told: Told, session_id: str, symbol: str) -> None:
    """Call every endpoint of the dialect with success, and as many as can be wrongly.

    The session must run.
    """
    binance = Binance(agent, session_id)
    Binance(agent, session_id)
    filters = binance.get("api/v3/exchangeInfo")["symbols"][0]["filters"]
    tick = Decimal(filters[0]["tickSize"])
    price = Decimal(binance.get("api/v3/ticker/price", symbol=symbol)["price"])

    def at(share: str) -> str:
        return str((price * Decimal(share) // tick * tick).normalize().__format__("f"))

    size = str(Decimal(filters[1]["stepSize"]) * (50 / price // Decimal(filters[1]["stepSize"])))
    limit: dict[str, Any] = {
        "type": "LIMIT",
        "timeInForce": "GTC",
        "symbol": symbol,
        "quantity": size,
    }
    named: dict[str, Any] = {"symbol": symbol, "origClientOrderId": "a"}
    binance.order(**limit, price=at("0.9"), newClientOrderId="a")
    binance.signed("GET", "api/v3/order", **named)
    binance.signed("DELETE", "api/v3/order", **named)
    binance.order(**limit, price=at("0.9"), newClientOrderId="b")
    binance.signed(
        "POST", "api/v3/order/cancelReplace", side="BUY", **limit, price=at("0.85"),
        cancelReplaceMode="STOP_ON_FAILURE", cancelOrigClientOrderId="b",
    )  # fmt: skip
    binance.order(symbol=symbol, quantity=size)
    binance.signed(
        "POST", "api/v3/order/test", symbol=symbol, side="BUY", type="MARKET", quantity=size
    )
    sell: dict[str, Any] = {"symbol": symbol, "side": "SELL", "quantity": size}
    listed = binance.signed(
        "POST", "api/v3/orderList/oco", **sell, aboveType="LIMIT_MAKER", abovePrice=at("1.3"),
        belowType="STOP_LOSS", belowStopPrice=at("0.7"),
    )["orderListId"]  # fmt: skip
    binance.signed("GET", "api/v3/orderList", orderListId=listed)
    binance.signed("DELETE", "api/v3/orderList", symbol=symbol, orderListId=listed)
    binance.signed("POST", "api/v3/order/oco", **sell, price=at("1.3"), stopPrice=at("0.7"))
    for name in (symbol, REAL_SYMBOL):
        _call_endpoints(binance, name)
    for wrong in (
        {"quantity": "1000000"},
        {"symbol": REAL_SYMBOL},
        {"type": "LIMIT", "timeInForce": "GTC", "price": str(price + tick / 3)},
        {"type": "STOP_LOSS", "stopPrice": at("0.9")},
        {"type": "TRAILING"},
    ):
        binance.order(expect=400, **{"symbol": symbol, "quantity": size} | wrong)
    binance.signed("GET", "api/v3/order", expect=400, symbol=symbol, orderId=10**9)
    for path in ("api/v3/nothing", "control/cancel", "control/fork", "sapi/v1/accountSnapshot"):
        binance.signed("POST", path, expect=404)
    missing = [end for end in ENDPOINTS if not told.has_done(end[0], f"{binance.path}/{end[1]}")]
    assert not missing


def _call_endpoints(binance: Binance, symbol: str) -> None:
    """Call every endpoint that needs no order, with each parameter that it reads."""
    values = {
        "symbol": symbol, "interval": "1h", "windowSize": "2h", "limit": 100, "holder": "me",
        "listenKey": "x",
    }  # fmt: skip
    wanted = {("POST", "control/advance"): {"to": binance.get("api/v3/time")["serverTime"]}}
    for (method, path), endpoint in ENDPOINTS.items():
        read = {name: value for name, value in values.items() if name in endpoint.names}
        text = binance.signed_text(read | wanted.get((method, path), {}))
        address = f"{binance.path}/{path}?{text}"
        binance.client.request(method, address, headers=binance.headers)
        binance.client.request(method, f"{address}0", headers=binance.headers)
        binance.client.request(method, f"{binance.path}/{path}", params={"symbol": symbol})


def use_the_tools(agent: Api, session_id: str, symbol: str) -> None:
    """Call every tool, rightly and wrongly, and read every resource of a session."""
    order = {"symbol": symbol, "side": "buy", "quote": 50, "stop_loss_pct": 30}
    right = _TOOL_ARGUMENTS | {"act": {"orders": [order], "steps": 2}}
    for name, offered in TOOLS.items():
        answers = [tool(agent, name, **right.get(name, {}))]
        if offered.for_session_key and name != "end_session":
            assert not answers[0].get("isError"), answers
        else:
            assert answers[0]["isError"], answers
        answers += [tool(agent, name, **arguments) for arguments in (
            {"session_id": UNKNOWN_SESSION}, {"session_id": session_id, "no_such": 1},
            {"session_id": session_id} | _READ_AGAIN.get(name, {}),
        )]  # fmt: skip
    for of in (session_id, UNKNOWN_SESSION):
        for rest in ("", "/recording"):
            ask(agent, "resources/read", uri=f"candlestep://session/{of}{rest}")


def said_to_everybody(caller: Api) -> list[Any]:
    """Return what tools and resources are, which must be the same for whoever asks."""
    lists = ("tools/list", "resources/list", "resources/templates/list", "prompts/list")
    told = [ask(caller, method) for method in lists]
    return told + [ask(caller, "resources/read", uri=uri) for uri in RESOURCES]


def tool(agent: Api, name: str, **arguments: Any) -> Any:
    """Call a tool and return its result, which may be a refusal."""
    return ask(agent, "tools/call", name=name, arguments=arguments)["result"]


def ask(caller: Api, method: str, **params: Any) -> Any:
    """Send a request of the protocol of tools, and return the message with its answer."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = caller.client.post("/mcp", json=body, headers=_MCP_HEADERS)
    assert answer.status_code == 200, answer.text
    return answer.json()
