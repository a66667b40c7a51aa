"""Engines: what runs a strategy over a market. ``sandbox`` is always there, others if installed.

Every engine decides by the same signals and is reported by the same ledger and the same metrics;
they differ in how they execute.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox import (
    ClosedTrade,
    Fill,
    InvalidParameter,
    Market,
    Position,
    Results,
    SandboxError,
    SessionConfig,
    closed_trades,
)
from candlestep.sandbox.engines.ledger import post_to_ledger
from candlestep.sandbox.engines.orders import EngineOrders, EngineResult
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.exchange.costs.fees import FlatFees
from candlestep.sandbox.exchange.risk import RiskProfile
from candlestep.sandbox.money import ZERO, add
from candlestep.sandbox.strategies import Signal, Strategy, run, signal_plan
from candlestep.sandbox.strategies.card import ParsedCard
from candlestep.sandbox.strategies.progress import RunProgress
from candlestep.sandbox.strategies.scope import StrategyScope

_ADAPTERS = {
    "backtrader": "candlestep.sandbox.engines.backtrader_engine",
    "vectorbt": "candlestep.sandbox.engines.vectorbt_engine",
}
"""By the name of an engine, which is that of its package, the module that connects it."""
_SANDBOX = "sandbox"


class EngineFailed(SandboxError):
    """An engine raised an error of its own, or its result does not add up."""

    code = "ENGINE_FAILED"


class EngineRun(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine makes of a run; amounts in quote currency."""

    results: Results
    """With metrics from ``sandbox.metrics.compute_metrics``, whatever the engine."""
    equity_time: NDArray[np.int64]
    """The start, the end of each candle of the timeframe, and the end of the run; in ms."""
    equity: NDArray[Any]
    """At each of these, in whole numbers of 1e-8."""
    fills: Sequence[Fill]
    trades: Sequence[ClosedTrade]
    signals: Sequence[Signal]
    candles: int
    """Candles of the timeframe that the strategy was abbreviate, of all symbols."""
    positions: Sequence[Position]
    """Those open at the end."""

    @property
    def open_value(self) -> Decimal:
        """What the open positions are worth."""
        return _sum(each.market_value for each in self.positions)

    @property
    def unrealized_pnl(self) -> Decimal:
        """Of the open positions."""
        return _sum(each.unrealized_pnl for each in self.positions)


def engines() -> list[str]:
    """The names of the engines that are installed, sorted."""
    return sorted([_SANDBOX, *filter(find_spec, _ADAPTERS)])


def run_engine(
    name: str,
    strategy: Strategy,
    config: SessionConfig,
    market: Market,
    on_progress: Callable[[float], object] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> EngineRun:
    """Run ``strategy`` over a session of ``config`` on ``market`` by the engine ``name``.

    As ``sandbox.strategies.run``: the same candles are abbreviate, and acted on at the same times and
    prices. Raises what that raises, what ``check_engine`` raises, and ``EngineFailed``.
    """
    check_engine(name, strategy, config)
    if name == _SANDBOX:
        return _run_in_sandbox(strategy, config, market, on_progress, cancelled)
    scope = StrategyScope.of(strategy, config)
    watch = RunProgress(scope.config.clock.total_steps, on_progress, cancelled)
    plan = signal_plan(strategy, config, market, watch.poll_now)
    orders = EngineOrders(plan, market, watch)
    try:
        adapter = import_module(_ADAPTERS[name])
        executed: EngineResult = adapter.execute(orders)
        booked = post_to_ledger(plan.config, plan.timeframe, market, orders, executed)
    except (SandboxError, MemoryError):
        raise
    except Exception as error:
        raise EngineFailed(
            f"{name} failed: {type(error).__name__}: {error}; run it by the engine {_SANDBOX}",
            engine=name,
        ) from error
    watch.at(plan.config.clock.total_steps)
    return EngineRun(
        results=booked.results,
        equity_time=booked.curve.time,
        equity=booked.curve.total_equity,
        fills=booked.fills,
        trades=closed_trades(booked.fills),
        signals=orders.signals,
        candles=plan.candles,
        positions=booked.positions,
    )


def check_engine(name: str, strategy: Strategy, config: SessionConfig) -> None:
    """Raise ``InvalidParameter`` unless the engine is installed and can do what is asked of it.

    Engines other than the sandbox buy and sell at the market, at complete candles, by rules that
    are known beforehand, for one rate of fees and one of slippage. The error's ``details`` name
    the ``feature``.
    """
    _require_installed(name)
    if name == _SANDBOX:
        return
    feature = _unsupported(strategy, config)
    if feature is not None:
        what, remedy = feature
        raise InvalidParameter(
            "engine", f"{name} {remedy}, or use the engine {_SANDBOX}", feature=what
        )


def _require_installed(name: str) -> None:
    there = engines()
    if name in there:
        return
    if name not in _ADAPTERS:
        raise InvalidParameter("engine", f"{abbreviate(name)!r} is none of {', '.join(there)}")
    raise InvalidParameter(
        "engine",
        f"{name} is not installed here: pip install 'candlestep[{name}]', or use one of"
        f" {', '.join(there)}",
    )


def _unsupported(strategy: Strategy, config: SessionConfig) -> tuple[str, str] | None:
    """What only the sandbox can do, and what to do instead; None if there is nothing such."""
    body = strategy.body
    if not isinstance(body, ParsedCard):
        return "source", "does not run programs; say it as a card"
    if body.card.grid is not None:
        return "grid", "has no limit orders, of which a grid is made; use entries and exits"
    for guard in ("stop_loss", "take_profit"):
        if any(getattr(entry, guard) is not None for entry in body.card.entries):
            return (
                guard,
                f"acts at complete candles, not within them as a {guard} does; leave it out",
            )
    if not isinstance(config.costs.fees, FlatFees):
        return (
            "fee_model",
            "takes one rate of fees for all fills; choose none, fixed_bps or a fee_rate",
        )
    if config.costs.model == "volume":
        return (
            "slippage",
            "takes one rate of slippage for all fills; choose the model fixed_bps or none",
        )
    if config.risk != RiskProfile():
        return "risk", "does not check a risk profile; leave its limits out"
    return None


def _run_in_sandbox(
    strategy: Strategy,
    config: SessionConfig,
    market: Market,
    on_progress: Callable[[float], object] | None,
    cancelled: Callable[[], bool] | None,
) -> EngineRun:
    """A session of the simulated exchange, driven by the strategy."""
    done = run(strategy, config, market, on_progress, cancelled)
    session = done.session
    timeframe = StrategyScope.of(strategy, config).timeframe
    times, equity = session.total_equity(timeframe // session.config.clock.interval)
    return EngineRun(
        results=session.results(),
        equity_time=times,
        equity=equity,
        fills=session.fills,
        trades=closed_trades(session.fills),
        signals=done.signals,
        candles=done.candles,
        positions=session.positions(),
    )


def _sum(amounts: Any) -> Decimal:
    total = ZERO
    for amount in amounts:
        total = add(total, amount)
    return total
