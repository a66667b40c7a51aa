"""``/openapi.json`` against a running server, whose answers must be as the document describes.

``--fuzz-examples`` (or FUZZ_EXAMPLES) is the number of random requests per operation; without
it, a few requests are tried, the same ones each time.
"""

import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode, checks

from candlestep.api.http.api import Endpoint
from candlestep.api.http.openapi import openapi
from candlestep.api.http.route import Route
from candlestep.api.routes import APIS, ROUTES, pages
from candlestep.api.routes.documentation import ABOUT, recorded_examples
from candlestep.api.schemas.decoding import decode_body, header_names
from candlestep.api.schemas.sessions import CreateRequest
from candlestep.data.store.server_file import SERVER_FILE
from candlestep.sandbox import InvalidParameter
from tests.support.backtests import BACKTESTS, CONFIG, CROSS, STRATEGIES
from tests.support.patience import PATIENCE
from tests.support.route_cases import UNKNOWN_ID
from tests.support.server_process import RunningServer, running

EXAMPLES = 12
SLOW_EXAMPLES = 4
"""The number of examples of an operation that imports 170,000 candles."""

ENDPOINTS = [
    endpoint for api in APIS for endpoint in api.endpoints() if endpoint.route.is_documented
]
DOCUMENT = openapi(APIS, ABOUT)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
"""Checks of every answer. ``negative_data_rejection``: what the document forbids is refused."""

BACKTEST = "/api/v1/backtest"
SESSION = {
    "start_time": "2025-01-02T00:00:00Z",
    "end_time": "2025-01-02T12:00:00Z",
    "starting_balance": 10_000,
    "candle_interval": "1m",
    "pairs": ["BTCUSDT", "ETHUSDT"],
}
NO_FILTERS = dict.fromkeys(("tick_size", "step_size", "min_quantity", "min_notional"))
BUY = {"symbol": "BTCUSDT", "side": "buy", "type": "market", "quantity": "0.01"}
BID = {"symbol": "ETHUSDT", "side": "buy", "type": "limit", "quantity": 1, "price": 100}
JOB = {
    "template_id": "tpl_sma_cross",
    "params": {},
    "symbols": ["BTCUSDT"],
    "timeframe": "1h",
    "start": "2025-01-02T00:00:00Z",
    "end": "2025-01-03T00:00:00Z",
    "capital": "10000",
}
SHORT = CONFIG | {"start_date": "2025-01-02T00:00:00Z", "end_date": "2025-01-03T00:00:00Z"}
EXECUTE = f"{BACKTEST}/{{exchangeId}}/{{type}}"
RUNS = "/api/v2/backtest/runs"
RUN = {
    "dataset_id": "btcusdt-1d-2025",
    "strategy": {"template": "tpl_sma_cross"},
    "fees": 5,
    "slippage": 3,
    "funding": True,
}
PREPARE = {"instrument": "BTC/USDT", "from": "2025-01-02", "to": "2025-01-03", "cadence": "1h"}
SOURCE = "def on_candle(ctx):\n    pass\n"
BODIES: Mapping[str, dict[str, Any]] = {
    f"{BACKTEST}/jobs": JOB,
    f"{EXECUTE}/prepare": PREPARE,
    RUNS: RUN,
    f"{BACKTEST}/create": SESSION,
    f"{BACKTEST}/{{session_id}}/trade/order": BUY | {"client_order_id": "sent again"},
    f"{BACKTEST}/{{session_id}}/step/batch": {"steps": 7},
    f"{BACKTEST}/{{session_id}}/turn": {"orders": [BUY, BID], "steps": 2},
    "/api/v1/agents": {"name": "drawn"},
    STRATEGIES: {"name": "drawn", "pipeline_config": CROSS},
    BACKTESTS: {"strategy_id": "", "config": SHORT},
    f"{BACKTESTS}/sweep": {"strategy_id": "", "base_config": SHORT, "param_grid": [{"fast": 3}]},
    f"{BACKTESTS}/compare": {"backtest_ids": []},
}
"""Bodies that are accepted; random bodies take some of their fields, to get past validation."""

SLOW = ("/admin/data/sample", f"{BACKTEST}/{{session_id}}/figure.json")
"""Paths of long work, or of answers that take long to be checked."""

WITHOUT_TOKEN = (
    "/admin/backup",
    "/admin/data/export",
    "/admin/data/drop-sample",
    "/admin/keys/create",
)
"""Paths that are called without the token: they would write files, or remove the market."""

FIGURE = f"{BACKTEST}/{{session_id}}/figure.json"
REFUSES_MORE = (
    f"{BACKTEST}/compare",
    f"{BACKTEST}/jobs",
    f"{BACKTEST}/{{session_id}}/market/candles/{{symbol}}",
    FIGURE,
)
"""Paths whose queries may be refused though the document allows them: a time such as 0000-00-00."""

REFUSES_PARTS = (f"{BACKTEST}/{{session_id}}/turn", f"{BACKTEST}/sessions/turn")
"""Paths whose answer of 200 tells which part was refused, such as an order of no quantity."""

SPARSE = (
    "SlippageResponse",
    "InstrumentResponse",
    "ListedInstrumentResponse",
    "LinkedInstrumentResponse",
    "CompileResponse",
    "JobResponse",
    "ResultsResponse",
)
"""Answers that leave out fields without a value."""

_OF_ORDERS = [
    "time_in_force", "post_only", "trail_percent", "trail_amount", "activation_price",
    "quote_amount", "stop_loss", "take_profit", "list_id", "parent_id", "triggered_at",
]  # fmt: skip
AT_DEFAULT = {"OrderResponse": _OF_ORDERS, "PlacedOrderResponse": _OF_ORDERS}
"""The fields of answers that are left out at their default."""

OF_PERPETUALS = {
    "StartResponse": ["mark_prices"],
    "StepResponse": ["mark_prices", "funding", "liquidations"],
    "FastResponse": ["mark_prices", "funding", "liquidations"],
    "PricesResponse": ["mark_prices"],
    "OrderResponse": ["reduce_only", "closed_pnl", "is_liquidation"],
    "PlacedOrderResponse": ["reduce_only", "closed_pnl", "is_liquidation"],
    "TradeResponse": ["closed_pnl", "closed_quantity", "liquidation"],
    "PortfolioResponse": ["wallet_balance", "margin_balance", "funding"],
    "SnapshotResponse": ["wallet_balance", "margin_balance", "funding"],
    "PositionResponse": [
        "side", "leverage", "margin_mode", "entry_price", "mark_price", "notional",
        "initial_margin", "maintenance_margin", "isolated_wallet", "margin_ratio",
        "liquidation_price", "bankruptcy_price", "funding_paid", "max_notional",
    ],
}  # fmt: skip
"""The fields of answers that are left out on spot."""

EACH_ENDPOINT = pytest.mark.parametrize(
    "endpoint",
    ENDPOINTS,
    ids=[f"{endpoint.route.method} {endpoint.route.path}" for endpoint in ENDPOINTS],
)


class World:
    """A server with the sample market, and ids for requests.

    A session that requests have changed is replaced when one of its former status is needed.
    """

    def __init__(self, server: RunningServer) -> None:
        self.url = server.url
        self.token = json.loads((server.home / SERVER_FILE).read_bytes())["token"]
        self.client = server.client()
        self._sessions: dict[str, str] = {}
        self._strategy = self._executed = ""
        self.post("/admin/data/sample", {}, {"X-Candlestep-Token": self.token})

    def session(self, status: str) -> str:
        """Return the id of a session of this status; it has orders if it was started."""
        known = self._sessions.get(status)
        if known is None or self._status(known) != status:
            known = self._sessions[status] = self._new_session(status)
        return known

    def agent(self) -> str:
        """Create an agent; return its id."""
        return str(self.post("/api/v1/agents", {"name": "probe"}).json()["agent_id"])

    def job(self) -> str:
        """Return the id of a job: a new one, unless too many have not ended."""
        answer = self.client.post(f"{BACKTEST}/jobs", json=JOB)
        if answer.is_success:
            return str(answer.json()["id"])
        assert answer.status_code == 429, answer.text
        return str(self.client.get(f"{BACKTEST}/jobs").json()["data"][0]["id"])

    def imported(self, content: bytes = b"time,open,high,low,close\n0,1,1,1,1\n") -> str:
        """Return the id of an import that has failed, or that has completed."""
        query = {"file": "ADAUSDT-1m.csv", "dry_run": "true"}
        answer = self.client.post("/api/v1/data/import", params=query, content=content)
        return str(answer.json()["import_id"]) if answer.is_success else UNKNOWN_ID

    def previewed(self) -> str:
        """Return the id of an import that was only tried."""
        minutes = b"".join(b"2024-01-01 00:0%d,1,1,1,1\n" % minute for minute in range(5))
        return self.imported(b"time,open,high,low,close\n" + minutes)

    def strategy(self) -> str:
        """Return the id of a strategy: a new one if requests have deleted the last."""
        if not self._exists(STRATEGIES, self._strategy):
            body = {"name": "probe", "pipeline_config": CROSS}
            self._strategy = str(self.post(STRATEGIES, body).json()["id"])
        return self._strategy

    def backtest(self) -> str:
        """Create a backtest; return its id."""
        body = {"strategy_id": self.strategy(), "config": SHORT}
        return str(self.post(BACKTESTS, body).json()["id"])

    def executed(self) -> str:
        """Return the id of a backtest that was executed, unless too many jobs have not ended."""
        if not self._exists(BACKTESTS, self._executed):
            self._executed = self.backtest()
            answer = self.client.post(f"{BACKTESTS}/{self._executed}/execute")
            assert answer.status_code in (200, 429), answer.text
        return self._executed

    def task(self) -> str:
        """Return the id of a new task, or an unknown one if too many have not ended."""
        answer = self.client.post(f"{BACKTESTS}/{self.backtest()}/execute/async")
        assert answer.status_code in (200, 429), answer.text
        return str(answer.json().get("task_id", "none"))

    def program(self) -> str:
        """Compile a program; return its id."""
        return str(self.client.post("/api/v1/strategy", content=SOURCE).json()["strategyId"])

    def preparation(self) -> str:
        """Prepare candles; return the id of the preparation."""
        path = EXECUTE.format(exchangeId="binance", type="ticker")
        return str(self.post(f"{path}/prepare", PREPARE).json()["jobId"])

    def execution(self) -> str:
        """Return the id of a new execution, or an unknown one if too many have not ended."""
        path = EXECUTE.format(exchangeId="binance", type="ticker")
        body = {"prepareJobId": self.preparation(), "strategyId": self.program()}
        answer = self.client.post(f"{path}/execute", json=body)
        return str(answer.json()["jobId"]) if answer.is_success else "none"

    def run(self) -> str:
        """Return the id of a new run, or an unknown one if too many have not ended."""
        answer = self.client.post(RUNS, json=RUN)
        return str(answer.json()["data"]["run_id"]) if answer.is_success else "none"

    def post(
        self, path: str, body: object, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        answer = self.client.post(path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer

    def _exists(self, path: str, name: str) -> bool:
        return bool(name) and self.client.get(f"{path}/{name}").is_success

    def _status(self, session_id: str) -> str:
        return str(self.client.get(f"{BACKTEST}/{session_id}/status").json()["status"])

    def _new_session(self, status: str) -> str:
        for symbol in ("BTCUSDT", "ETHUSDT"):
            # Requests before may have given it filters that refuse our orders.
            self.client.patch(f"/api/v1/data/instruments/{symbol}", json={"filters": NO_FILTERS})
        session_id = str(self.post(f"{BACKTEST}/create", SESSION).json()["session_id"])
        path = f"{BACKTEST}/{session_id}"
        if status != "created":
            self.post(f"{path}/start", {})
            for order in (BUY, BID, BID):
                self.post(f"{path}/trade/order", order)
        if status == "completed":
            self.post(f"{path}/step/batch", {"steps": 10_000})
        if status == "cancelled":
            self.post(f"{path}/cancel", {})
        return session_id


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("openapi")) as server:
        yield World(server)


KNOWN: Mapping[str, tuple[Callable[[World], object] | None, ...]] = {
    "session_id": (
        lambda world: world.session("running"),
        lambda world: world.session("running"),
        lambda world: world.session("completed"),
        lambda world: world.session("cancelled"),
        lambda world: world.session("created"),
        None,
    ),
    "order_id": (lambda world: 1, lambda world: 2, lambda world: 3, None),
    "symbol": (lambda world: "BTCUSDT", lambda world: "eth/usdt", None),
    "agent_id": (World.agent, None),
    "job_id": (World.job, None),
    "strategy_id": (World.strategy, None),
    "backtest_id": (World.backtest, World.executed, None),
    "task_id": (World.task, None),
    "run_id": (World.run, None),
    "strategyId": (World.program, None),
    "jobId": (World.preparation, World.execution, None),
    "type": (lambda world: "ticker", lambda world: "ticker", None),
    "exchangeId": (lambda world: "binance", None),
    "segment": (lambda world: "spot", lambda world: "futures", None),
    "import_id": (World.imported, World.previewed, None),
}
"""Values of each path parameter that exist; None keeps the random value."""

Fuzz = Callable[[Callable[[st.DataObject], None]], None]


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """Return a runner of properties, with the number of examples that the command line asks for."""
    examples = request.config.getoption("--fuzz-examples")
    endpoint: Endpoint = request.node.callspec.params["endpoint"]
    usual = SLOW_EXAMPLES if endpoint.route.path in SLOW else EXAMPLES

    def run(check: Callable[[st.DataObject], None]) -> None:
        chosen = settings(
            max_examples=examples or usual,
            derandomize=not examples,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        chosen(given(st.data())(check))()

    return run


def make_sensible(case: Case[Any], route: Route, world: World, data: st.DataObject) -> None:
    """Replace some ids of a random request by existing ones, and some fields by accepted ones."""
    for name in route.parameters:
        known = data.draw(st.sampled_from(KNOWN[name]))
        if known is not None:
            case.path_parameters[name] = known(world)
    if route.path in BODIES and isinstance(case.body, dict):
        accepted = {
            name: _with_ids(name, value, world) for name, value in BODIES[route.path].items()
        }
        names = data.draw(st.sets(st.sampled_from(sorted(accepted))))
        case.body.update({name: accepted[name] for name in names})
    if route.path == f"{BACKTEST}/compare" and data.draw(st.booleans()):
        case.query["sessions"] = f"{world.session('completed')},{world.session('cancelled')}"


def _with_ids(name: str, value: Any, world: World) -> Any:
    """Return a field of ``BODIES``, with an existing id where the field is one."""
    if name == "strategy_id":
        return world.strategy()
    return [world.backtest(), world.executed()] if name == "backtest_ids" else value


@EACH_ENDPOINT
def test_whatever_is_sent_the_answer_is_as_described(
    endpoint: Endpoint, world: World, fuzz: Fuzz
) -> None:
    route = endpoint.route
    operation = SCHEMA[route.path][route.method]
    allowed = operation.as_strategy()
    forbidden = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    headers = {}
    if route.access == "admin" and route.path not in WITHOUT_TOKEN:
        headers["X-Candlestep-Token"] = world.token

    expected = [
        check
        for check in CHECKS
        if check is not checks.negative_data_rejection or route.path not in REFUSES_PARTS
    ]

    def answers_as_described(data: st.DataObject) -> None:
        is_allowed = data.draw(st.sampled_from((True, True, False)))
        case = data.draw(allowed if is_allowed else forbidden)
        if is_allowed:
            make_sensible(case, route, world, data)
        answer = case.call_and_validate(base_url=world.url, headers=headers, checks=expected)
        if is_allowed and route.method == "GET" and route.path not in REFUSES_MORE:
            # The document describes everything that a request without a body is refused for.
            assert answer.status_code != endpoint.status_of("INVALID_PARAMETER"), answer.text

    fuzz(answers_as_described)


def test_the_document_is_openapi_and_is_what_the_server_answers(world: World) -> None:
    SCHEMA.validate()

    described = openapi(APIS, ABOUT, recorded_examples())
    assert world.client.get("/openapi.json").json() == json.loads(json.dumps(described))


def test_every_route_is_in_the_document_and_nothing_else_is() -> None:
    described = {
        (method.upper(), path)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
    }

    assert described == {(route.method, route.path) for route in ROUTES if route.is_documented}
    assert len(described) == len(ENDPOINTS)
    left_out = [route.path for route in ROUTES if not route.is_documented]
    assert set(left_out) == {
        "/docs/static/{file}",
        "/binance/{session_id}/{path}",
        *(endpoint.route.path for api in (pages.API, pages.FILES) for endpoint in api.endpoints()),
    }


@EACH_ENDPOINT
def test_a_route_says_what_it_takes_and_every_code_that_it_may_answer(endpoint: Endpoint) -> None:
    route = endpoint.route
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    responses = operation["responses"]

    def names(place: str) -> list[str]:
        parameters = operation["parameters"]
        return [parameter["name"] for parameter in parameters if parameter["in"] == place]

    assert names("path") == re.findall("{(.*?)}", route.path)
    headers = route.headers is not None and header_names(route.headers)
    assert names("header") == [
        *(headers or []),
        *(["Idempotency-Key"] if route.takes_key else []),
    ]
    assert ("requestBody" in operation) == (route.body is not None)
    assert {str(status) for status in (route.status, *route.also)} <= responses.keys()
    for code in route.errors:
        schema = responses[str(endpoint.status_of(code))]["content"]["application/json"]["schema"]
        assert code in schema["properties"]["code"]["enum"]
    if route.access == "admin":
        assert operation["security"] == [{"command_line": []}]


def test_objects_have_no_fields_but_those_described() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    objects = {name: schema for name, schema in schemas.items() if schema["type"] == "object"}

    assert objects
    for name, schema in objects.items():
        assert schema["additionalProperties"] is False, name
        if name.endswith("Response") and name not in SPARSE:
            left_out = [*AT_DEFAULT.get(name, []), *OF_PERPETUALS.get(name, [])]
            always = [field for field in schema["properties"] if field not in left_out]
            assert schema["required"] == always, name
            assert {*left_out} <= schema["properties"].keys(), name


@pytest.mark.parametrize("number", ["1", "1.5", "+.5", "1.", "1e-3", "1E+03", "0" * 400])
def test_the_pattern_of_numbers_allows(number: str) -> None:
    assert re.search(pattern_of_numbers(), number)


@pytest.mark.parametrize("no_number", ["", ".", "NaN", "1_000", "1e9999", "0x1", "١", " 1", "1,5"])
def test_the_pattern_of_numbers_refuses(no_number: str) -> None:
    assert not re.search(pattern_of_numbers(), no_number)


def pattern_of_numbers() -> str:
    order = DOCUMENT["components"]["schemas"]["OrderRequest"]
    text, number = order["properties"]["quantity"]["anyOf"]
    assert (text["type"], number["type"]) == ("string", "number")
    return str(text["pattern"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"pirce": 5}, "pirce"),
        ({}, "start_time"),
        ([], "body"),
        ({"pairs": ["BTCUSDT", 5]}, "pairs[1]"),
        ({"slippage": {"model": "none", "bps": 1}}, "slippage.bps"),
        ({"slippage": {"model": " - at `$.elsewhere`"}}, "slippage.model"),
        ({" - at `": 1}, " - at `"),
        ({"x" * 100_000: 1}, "x" * 40 + "…"),
        ({"trigger": "x" * 100_000}, "trigger"),
    ],
)
def test_a_refused_field_is_named_whatever_was_sent(body: Any, field: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        decode_body(CreateRequest, json.dumps(body).encode())

    assert refused.value.details["field"] == field
    assert len(refused.value.message) < 300


@pytest.mark.parametrize("text", ["null", "NULL", "", "nope"])
def test_a_filter_that_is_no_value_is_refused_and_not_left_out(world: World, text: str) -> None:
    refused = world.client.get(f"{BACKTEST}/list?status={text}")

    assert refused.status_code == 422
    assert refused.json()["details"]["field"] == "status"


@pytest.mark.parametrize("steps", [7, 7.0, "7", "7.0", "7e0"])
def test_steps_are_a_whole_number_however_it_is_written(world: World, steps: object) -> None:
    path = f"{BACKTEST}/{world.session('running')}/step/batch/fast"

    assert world.post(path, {"steps": steps}).json()["steps_executed"] == 7


@pytest.mark.parametrize(
    "steps", [0, -1, 1.5, "1.5", 10**9 + 1, "1e400", "1e999", 10**400, "1e10", True, None, [7]]
)
def test_steps_beyond_a_billion_are_refused_and_end_nothing(world: World, steps: object) -> None:
    session_id = world.session("running")
    before = world.client.get(f"{BACKTEST}/{session_id}/status").json()
    for path in ("step/batch", "step/batch/fast"):
        refused = world.client.post(f"{BACKTEST}/{session_id}/{path}", json={"steps": steps})
        assert (refused.status_code, refused.json()["details"]["field"]) == (422, "steps")
    assert world.client.get(f"{BACKTEST}/{session_id}/status").json() == before


def test_an_end_before_the_start_is_refused_as_that(world: World) -> None:
    turned = SESSION | {"start_time": SESSION["end_time"], "end_time": SESSION["start_time"]}
    refused = world.client.post(f"{BACKTEST}/create", json=turned)

    assert refused.json()["code"] == "INVALID_PARAMETER"
    assert refused.json()["details"]["field"] == "end_time"


def test_all_that_is_no_request_is_refused_in_the_one_shape(world: World) -> None:
    """The protocol refuses it, before there is a route."""
    address = urlsplit(world.url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        connection.sendall(b"these are no headers\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(4096), b""))

    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["code"] == "INVALID_REQUEST"
    assert set(json.loads(body)) == set(DOCUMENT["components"]["schemas"]["ErrorBody"]["required"])


def test_headers_without_end_are_refused(world: World) -> None:
    address = urlsplit(world.url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        with suppress(ConnectionError):
            for _ in range(10_000):
                connection.sendall(b"X-More: %s\r\n" % (b"x" * 1000))
            pytest.fail("10 MB of headers were taken")


# What a reader needs


@EACH_ENDPOINT
def test_every_parameter_and_every_error_is_described(endpoint: Endpoint) -> None:
    operation = DOCUMENT["paths"][endpoint.route.path][endpoint.route.method.lower()]
    for parameter in operation["parameters"]:
        assert parameter["description"], parameter["name"]
    for status, response in operation["responses"].items():
        if status >= "400":
            for line in response["description"].splitlines():
                assert re.fullmatch(r"- `\w+`: .{10,}", line), line


def test_recorded_examples_are_valid_and_of_every_operation_that_answers_json() -> None:
    """And they are not those of the types: a percent is one."""
    examples = recorded_examples()
    document = openapi(APIS, ABOUT, examples)
    without = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            status = next(iter(operation["responses"]))
            content = operation["responses"][status].get("content", {}).get("application/json")
            if content is None or path.startswith("/admin") or path == "/openapi.json":
                continue
            if "example" not in content:
                without.append(f"{method.upper()} {path}")
                continue
            schema = content["schema"] | {"components": document["components"]}
            try:
                jsonschema.validate(content["example"], schema)
            except jsonschema.ValidationError as error:
                pytest.fail(f"{method} {path}: {error.message}; `make examples` records them again")
    assert without == [], "`make examples` records what is called in tests/record_examples.py"
    summary = examples["GET /api/v1/backtest/{session_id}/results"]["response"]["summary"]
    assert summary["roi_pct"] != summary["final_equity"]
