"""Programs: source that is compiled, and kept under the digest of it and of the account."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.http.route import Call, Route, Text
from candlestep.api.routes.prepare_execute.ids import derived_id
from candlestep.api.services import Server
from candlestep.data.records.programs import get_program, put_program
from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.strategies import compile_strategy


class CompileHeaders(msgspec.Struct, rename={"compile_async": "X-Compile-Async"}):
    compile_async: Annotated[
        bool, Meta(description="Answer with a job, and tell of the outcome when asked for it.")
    ] = False


class CompileAnswer(msgspec.Struct, frozen=True):
    strategyId: str | UnsetType = UNSET
    jobId: Annotated[
        str | UnsetType, Meta(description="Instead, with `X-Compile-Async: true`.")
    ] = UNSET


class StrategyStateAnswer(msgspec.Struct, frozen=True):
    jobId: str
    status: Literal["Completed", "Failed"]
    strategyId: Annotated[str | None, Meta(description="Null if it does not compile.")]
    statusDetail: Annotated[str | None, Meta(description="Why it does not compile.")]
    validation: Literal["passed", "failed"]


async def compile_source(server: Server, call: Call) -> CompileAnswer:
    """Compile a program in Starlark, sent as it is.

    The same source has the same id, for the same account. What is wrong with it is told with line
    and column.
    """
    strategy_id = await server.in_thread(
        _compile, server, call.account_id, call.body.text, fails_later=call.headers.compile_async
    )
    if call.headers.compile_async:
        return CompileAnswer(jobId=strategy_id)
    return CompileAnswer(strategyId=strategy_id)


async def strategy(server: Server, call: Call) -> StrategyStateAnswer:
    """Whether a program compiles."""
    found = await server.in_thread(
        get_program, server.store, call.account_id, call.path["strategyId"]
    )
    if found.error is not None:
        return StrategyStateAnswer(found.strategy_id, "Failed", None, found.error, "failed")
    return StrategyStateAnswer(found.strategy_id, "Completed", found.strategy_id, None, "passed")


def _compile(server: Server, account_id: str, source: str, *, fails_later: bool) -> str:
    error = None
    try:
        compile_strategy({"source": source})
    except InvalidParameter as refusal:
        if not fails_later:
            raise
        error = refusal.message
    strategy_id = derived_id(account_id, source)
    put_program(server.store, account_id, strategy_id, source, error)
    return strategy_id


ROUTES = [
    Route(
        "POST", "/api/v1/strategy", compile_source, "Compile a program", CompileAnswer, body=Text,
        headers=CompileHeaders, refused_with=400,
    ),
    Route(
        "GET", "/api/v1/strategy/{strategyId}", strategy, "A compiled program",
        StrategyStateAnswer, errors=("STRATEGY_NOT_FOUND",), refused_with=400,
    ),
]  # fmt: skip
