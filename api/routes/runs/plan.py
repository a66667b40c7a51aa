"""The run that is planned from a request for one on a dataset."""

from typing import Any

import msgspec

from candlestep.api.jobs.planning import (
    MOST_YEARS,
    CostTerms,
    FieldNames,
    MarketScope,
    Period,
    RunDraft,
    compile_for,
    is_too_long,
)
from candlestep.api.routes.runs.schemas import RunRequest
from candlestep.api.routes.runs.trials import strategy_family
from candlestep.api.schemas.decoding import with_numbers
from candlestep.api.services import Services
from candlestep.data.market.datasets import Dataset, find_dataset
from candlestep.data.records.jobs import RunSpec
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import InvalidParameter, interval_name
from candlestep.sandbox.clock import parse_interval
from candlestep.sandbox.strategies import Strategy

STARTING_BALANCE = "10000"
"""The capital of every run, in the dataset's quote currency."""

_NAMES = FieldNames(
    session={"fee_bps": "fees", "slippage.bps": "slippage"}, strategy_within="strategy."
)


class StoredRequest(msgspec.Struct, frozen=True):
    """The request for a run as it is stored with its job."""

    dataset_id: str
    strategy: dict[str, Any]
    family: str
    """See ``strategy_family``."""
    fees_bps: str
    slippage_bps: str
    funding: bool


def plan_run(services: Services, body: RunRequest) -> tuple[StoredRequest, RunSpec]:
    """Return the request to be stored, and the run, checked.

    Raises ``InvalidParameter``, and ``NoPrice`` without candles.
    """
    dataset = find_dataset(services.catalogue.series(), body.dataset_id)
    if is_too_long(dataset.start, dataset.end):
        raise InvalidParameter(
            "dataset_id",
            f"covers more than {MOST_YEARS} years; name a part of it, such as"
            f" {dataset.symbol.lower()}-{interval_name(dataset.interval)}-20200101-20241231",
        )
    strategy = _compile(body, dataset)
    for field in ("fees", "slippage"):
        if getattr(body, field) is None:
            raise InvalidParameter(field, "is required, in hundredths of a percent, such as 5")
    draft = RunDraft(
        strategy,
        MarketScope.resolve(services.catalogue, dataset.exchange, [dataset.symbol], _NAMES),
        Period(dataset.start, dataset.end, dataset.start, dataset.end),
        dataset.interval,
        STARTING_BALANCE,
        CostTerms(fee_model="fixed_bps", fee_bps=body.fees, slippage_bps=body.slippage),
    )
    spec = draft.to_spec(_NAMES)
    stored = StoredRequest(
        dataset.dataset_id,
        strategy.content,
        strategy_family(strategy),
        spec.config["fee_bps"],
        spec.config["slippage"]["bps"],
        body.funding,
    )
    return stored, spec


def _compile(body: RunRequest, dataset: Dataset) -> Strategy:
    """Compile the strategy for the dataset's symbol, at its own timeframe or the dataset's."""
    strategy = compile_for(with_numbers(body.strategy), {}, _NAMES)
    if any(normalise_symbol(symbol) != dataset.symbol for symbol in strategy.symbols or ()):
        raise InvalidParameter(
            "strategy.symbols", f"must be [{dataset.symbol!r}], the dataset's, or left out"
        )
    timeframe = strategy.timeframe or interval_name(dataset.interval)
    if parse_interval(timeframe) < dataset.interval:
        raise InvalidParameter(
            "strategy.timeframe",
            f"is finer than the dataset's, which is {interval_name(dataset.interval)}",
        )
    return compile_for(
        strategy.content, {"timeframe": timeframe, "symbols": [dataset.symbol]}, _NAMES
    )
