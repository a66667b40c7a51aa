"""Sweeps: a strategy run with many configurations as one job."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.api.errors import with_field
from candlestep.api.http.route import Request, Route
from candlestep.api.routes.backtests.answers import BASE, TaskStartedResponse
from candlestep.api.routes.backtests.backtests import BacktestRequest, EngineName, StrategyId
from candlestep.api.routes.backtests.figures import RANKABLE
from candlestep.api.routes.backtests.plan import BacktestConfig, Plan, plan_backtest
from candlestep.api.routes.backtests.tasks import StoredSweep, sweep_request
from candlestep.api.schemas.decoding import RequestBody, decode_body
from candlestep.api.schemas.raw_json import JsonObject, json_object
from candlestep.api.services import Services
from candlestep.data.records.backtests import create_backtests, new_backtest_id
from candlestep.data.records.strategies import StoredStrategy, get_strategy
from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.strategies import TEMPLATES

MOST_CONFIGS = 50
"""The number of entries that a sweep may have."""

_CAPITAL = {
    field.name: field.default
    for field in msgspec.structs.fields(BacktestRequest)
    if field.name in ("initial_capital", "commission", "slippage")
}
"""The fields next to the configuration that entries may set, with their defaults."""
_CONFIG = BacktestConfig.__struct_fields__
_PARAMETERS = "signal_plugin_params"


class SweepRequest(RequestBody):
    strategy_id: StrategyId
    base_config: Annotated[
        JsonObject,
        Meta(
            description="Values for the keys that entries leave out: the fields of a backtest's"
            " `config`, `initial_capital`, `commission`, `slippage`, and template parameters."
        ),
    ]
    param_grid: Annotated[
        list[JsonObject],
        Meta(
            min_length=1,
            max_length=MOST_CONFIGS,
            description="Each is one run: its keys replace those of `base_config`.",
        ),
    ]
    engine: EngineName = "sandbox"
    rank_metric: Annotated[
        str,
        Meta(
            description="The flat key that runs are ranked by, the best first.",
            extra_json_schema={"enum": RANKABLE},
        ),
    ] = "perf_sharpe_ratio"


class SweepResponse(TaskStartedResponse, frozen=True):
    n_configs: Annotated[int, Meta(ge=1, description="The number of entries in the grid.")]


async def sweep(services: Services, request: Request) -> SweepResponse:
    """Run a strategy with every entry of a grid as one job; its task has the leaderboard.

    Each run is a backtest, which is kept. A run that fails does not affect the others.
    """
    body: SweepRequest = request.body
    if body.rank_metric not in RANKABLE:
        raise InvalidParameter(
            "rank_metric",
            f"must be one of {', '.join(RANKABLE)}, got {abbreviate(body.rank_metric)!r}",
        )
    entries = [
        json_object(raw, f"param_grid[{place}]") for place, raw in enumerate(body.param_grid)
    ]
    plans = await services.in_thread(_plan_all, services, request.account_id, body, entries)
    ids = [new_backtest_id() for _ in plans]
    specs = [
        msgspec.structs.replace(plan.spec, overrides=entry)
        for plan, entry in zip(plans, entries, strict=True)
    ]
    stored = sweep_request(StoredSweep(body.rank_metric, ids))
    job = await services.jobs.submit(request.account_id, "backtests", specs, stored)
    setups = {backtest_id: plan.setup for backtest_id, plan in zip(ids, plans, strict=True)}
    try:
        await services.in_thread(
            create_backtests, services.store, request.account_id, setups, job.job_id
        )
    except BaseException:
        await services.jobs.cancel_if_running(request.account_id, job.job_id)
        raise
    return SweepResponse(job.job_id, "PENDING", len(plans))


def _plan_all(
    services: Services, account_id: str, body: SweepRequest, entries: list[dict[str, Any]]
) -> list[Plan]:
    stored = get_strategy(services.store, account_id, body.strategy_id)
    base = json_object(body.base_config, "base_config")
    return [
        _plan_entry(services, stored, body.engine, base, entry, place)
        for place, entry in enumerate(entries)
    ]


def _plan_entry(
    services: Services,
    stored: StoredStrategy,
    engine: str,
    base: Mapping[str, Any],
    entry: Mapping[str, Any],
    place: int,
) -> Plan:
    """Plan the backtest of an entry, which replaces parts of ``base``.

    Errors name the field where the request has it.
    """

    def path_of(key: str) -> str:
        return f"param_grid[{place}].{key}" if key in entry else f"base_config.{key}"

    merged = {**base, **entry}
    config = {key: merged[key] for key in _CONFIG if key in merged}
    capital = {key: merged.get(key, default) for key, default in _CAPITAL.items()}
    parameters = {key: merged[key] for key in merged if key not in (*_CONFIG, *_CAPITAL)}
    known = _parameters_of(stored, config.get("signal_plugin_key"))
    for key in parameters:
        if key not in known:
            raise InvalidParameter(
                path_of(abbreviate(key)), _unknown_key((*_CONFIG, *_CAPITAL), sorted(known))
            )
    if parameters:
        own_parameters = config.get(_PARAMETERS, {})
        if not isinstance(own_parameters, dict):
            raise InvalidParameter(path_of(_PARAMETERS), "must be an object, {…}")
        config[_PARAMETERS] = own_parameters | parameters
    try:
        decoded = decode_body(BacktestConfig, msgspec.json.encode(config))
        return plan_backtest(services, stored, engine=engine, **capital, config=decoded)
    except InvalidParameter as refusal:
        raise _relocate(refusal, path_of, parameters) from None


def _relocate(
    refusal: InvalidParameter, path_of: Callable[[str], str], parameters: Mapping[str, Any]
) -> InvalidParameter:
    """Return the refusal with its field named where the sweep has it."""
    field = str(refusal.details["field"]).removeprefix("config.")
    if field == "engine":
        return refusal  # All entries share it.
    parameter = field.removeprefix(f"{_PARAMETERS}.")
    if parameter in parameters:
        return with_field(refusal, path_of(parameter))
    first = field.partition(".")[0]
    return with_field(refusal, path_of(first) + field.removeprefix(first))


def _parameters_of(stored: StoredStrategy, key: Any) -> set[str]:
    """Return the names of the parameters of the template that is run, if it is one."""
    template = TEMPLATES.get(key if isinstance(key, str) else stored.content.get("template", ""))
    return set() if template is None else {parameter.name for parameter in template.parameters}


def _unknown_key(fields: Iterable[str], parameters: Iterable[str]) -> str:
    own = ", ".join(parameters)
    return f"is not a field; the fields are {', '.join(fields)}" + (
        f", and the strategy's parameters {own}" if own else "; the strategy has no parameters"
    )


ROUTES = [
    Route(
        "POST", f"{BASE}/sweep", sweep, "Run a parameter sweep", SweepResponse, body=SweepRequest,
        errors=("STRATEGY_NOT_FOUND", "RATE_LIMITED"),
    ),
]  # fmt: skip
