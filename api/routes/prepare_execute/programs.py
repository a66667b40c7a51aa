"""Programs: source that is compiled and stored under a digest of it and of the account."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.http.route import Request, Route
from candlestep.api.routes.prepare_execute.ids import derived_id
from candlestep.api.schemas.decoding import PlainText
from candlestep.api.services import Services
from candlestep.data.records.strategies import get_program, save_program
from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.strategies import compile_strategy


class CompileHeaders(msgspec.Struct, rename={"compile_async": "X-Compile-Async"}):
    compile_async: Annotated[
        bool, Meta(description="Answer with the id of a job, whose state has the outcome.")
    ] = False


class CompileResponse(msgspec.Struct, frozen=True):
    strategyId: str | UnsetType = UNSET
    jobId: Annotated[
        str | UnsetType,
        Meta(description="In place of `strategyId`, with `X-Compile-Async: true`."),
    ] = UNSET


class StrategyStateResponse(msgspec.Struct, frozen=True):
    jobId: str
    status: Literal["Completed", "Failed"]
    strategyId: Annotated[str | None, Meta(description="Null if it does not compile.")]
    statusDetail: Annotated[str | None, Meta(description="Why it does not compile.")]
    validation: Literal["passed", "failed"]


async def compile_source(services: Services, request: Request) -> CompileResponse:
    """Compile a program in Starlark, sent as plain text.

    The same source of the same account has the same id. Errors name line and column.
    """
    strategy_id = await services.in_thread(
        _compile,
        services,
        request.account_id,
        request.body.text,
        fails_later=request.headers.compile_async,
    )
    if request.headers.compile_async:
        return CompileResponse(jobId=strategy_id)
    return CompileResponse(strategyId=strategy_id)


async def strategy(services: Services, request: Request) -> StrategyStateResponse:
    """Return whether a program compiles."""
    program = await services.read_record(get_program, request, "strategyId")
    strategy_id, error = program.strategy_id, program.error
    if error is not None:
        return StrategyStateResponse(strategy_id, "Failed", None, error, "failed")
    return StrategyStateResponse(strategy_id, "Completed", strategy_id, None, "passed")


def _compile(services: Services, account_id: str, source: str, *, fails_later: bool) -> str:
    error = None
    try:
        compile_strategy({"source": source})
    except InvalidParameter as refusal:
        if not fails_later:
            raise
        error = refusal.message
    strategy_id = derived_id(account_id, source)
    save_program(services.store, account_id, strategy_id, source, error)
    return strategy_id


_BASE = "/api/v1/strategy"

ROUTES = [
    Route(
        "POST", _BASE, compile_source, "Compile a program", body=PlainText, headers=CompileHeaders
    ),
    Route(
        "GET", f"{_BASE}/{{strategyId}}", strategy, "A compiled program",
        errors=("STRATEGY_NOT_FOUND",),
    ),
]  # fmt: skip
