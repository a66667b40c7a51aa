"""Running a strategy with an engine: ``sandbox`` is always available, others if installed."""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec

from candlestep.sandbox import InvalidParameter, Market, SandboxError, SessionConfig, closed_trades
from candlestep.sandbox.engines.ledger import EngineRun, post_to_ledger
from candlestep.sandbox.engines.orders import EngineOrders, EngineResult
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.exchange.costs.fees import FlatFees
from candlestep.sandbox.exchange.instruments import NO_FILTERS
from candlestep.sandbox.exchange.margin.settings import MarginSettings
from candlestep.sandbox.exchange.risk import RiskProfile
from candlestep.sandbox.strategies import Strategy, run, signal_plan
from candlestep.sandbox.strategies.card import ParsedCard
from candlestep.sandbox.strategies.progress import RunProgress
from candlestep.sandbox.strategies.scope import StrategyScope

_ADAPTERS = {
    "backtrader": "candlestep.sandbox.engines.backtrader_engine",
    "vectorbt": "candlestep.sandbox.engines.vectorbt_engine",
}
"""The module that connects each engine, whose name is that of its package."""
_SANDBOX = "sandbox"

Adapter = Callable[[EngineOrders], EngineResult]
"""Executes orders with an engine."""


class EngineFailed(SandboxError):
    """An engine that raised an error of its own, or whose result does not add up."""

    code = "ENGINE_FAILED"


def is_installed(engine: str) -> bool:
    """Return whether the package of an engine is installed."""
    return find_spec(engine) is not None


def load_adapter(engine: str) -> Adapter:
    """Import the adapter of an engine, and with it the engine, which may take seconds."""
    adapter: Adapter = import_module(_ADAPTERS[engine]).execute
    return adapter


def engines(is_installed: Callable[[str], bool] = is_installed) -> list[str]:
    """Return the names of the engines that are installed, sorted."""
    return sorted([_SANDBOX, *filter(is_installed, _ADAPTERS)])


def run_engine(
    name: str,
    strategy: Strategy,
    config: SessionConfig,
    market: Market,
    on_progress: Callable[[float], object] | None = None,
    cancelled: Callable[[], bool] | None = None,
    *,
    load_adapter: Callable[[str], Adapter] = load_adapter,
) -> EngineRun:
    """Run ``strategy`` over a session of ``config`` on ``market`` with the engine ``name``.

    Every engine sees the candles that ``sandbox.strategies.run`` sees, and acts at the same times and
    prices. Raises the errors of ``run`` and of ``check_engine``, and ``EngineFailed``.
    """
    check_engine(name, strategy, config)
    if name == _SANDBOX:
        return _run_in_sandbox(strategy, config, market, on_progress, cancelled)
    scope = StrategyScope.of(strategy, config)
    progress = RunProgress(scope.config.clock.total_steps, on_progress, cancelled)
    plan = signal_plan(strategy, config, market, progress.poll_now)
    orders = EngineOrders(plan, market, progress)
    try:
        outcome = post_to_ledger(plan, market, orders, load_adapter(name)(orders))
    except (SandboxError, MemoryError):
        raise
    except Exception as error:
        raise EngineFailed(
            f"{name} failed: {type(error).__name__}: {error}; use the engine {_SANDBOX} instead",
            engine=name,
        ) from error
    progress.at(plan.config.clock.total_steps)
    return outcome


def check_engine(
    name: str,
    strategy: Strategy,
    config: SessionConfig,
    is_installed: Callable[[str], bool] = is_installed,
) -> None:
    """Raise ``InvalidParameter`` unless the engine is installed and supports the run.

    Engines other than the sandbox buy and sell at the market, at complete candles, by rules that
    are fixed before the run, with a single fee rate and a single slippage rate. On perpetuals they
    trade without leverage and funding, and value positions at last prices. The error's ``details``
    name the ``feature`` that the engine lacks.
    """
    strategy.require_market_type(config.market_type)
    _require_installed(name, engines(is_installed))
    if name == _SANDBOX:
        return
    unsupported = _unsupported_feature(strategy, config)
    if unsupported is not None:
        feature, remedy = unsupported
        raise InvalidParameter(
            "engine", f"{name} {remedy}, or use the engine {_SANDBOX}", feature=feature
        )


def _require_installed(name: str, installed: Sequence[str]) -> None:
    if name in installed:
        return
    names = ", ".join(installed)
    if name not in _ADAPTERS:
        raise InvalidParameter("engine", f"{abbreviate(name)!r} is not one of {names}")
    raise InvalidParameter(
        "engine",
        f"{name} is not installed: pip install 'candlestep[{name}]', or use one of {names}",
    )


def _unsupported_feature(strategy: Strategy, config: SessionConfig) -> tuple[str, str] | None:
    """Return a feature that only the sandbox supports, and the remedy; None if none is used."""
    body = strategy.body
    if not isinstance(body, ParsedCard):
        return "source", "does not run programs; write the strategy as a card"
    if body.card.grid is not None:
        return "grid", "does not support the limit orders of a grid; use entries and exits"
    for guard in ("stop_loss", "take_profit", "trailing_stop"):
        if any(getattr(entry, guard) is not None for entry in body.card.entries):
            return (
                guard,
                f"acts at complete candles, not within them as a {guard} does; leave it out",
            )
    if not isinstance(config.costs.fees, FlatFees):
        return (
            "fee_model",
            "supports a single fee rate for all fills; choose none, fixed_bps or a fee_rate",
        )
    if config.costs.model == "volume":
        return (
            "slippage",
            "supports a single slippage rate for all fills; choose the model fixed_bps or none",
        )
    if config.risk != RiskProfile():
        return "risk", "does not check a risk profile; leave its limits out"
    if any(instrument.filters != NO_FILTERS for instrument in config.instruments.values()):
        return (
            "filters",
            "does not meet the filters of an instrument, such as its step_size; remove them",
        )
    return None if config.margin is None else _unsupported_margin(config.margin)


def _unsupported_margin(margin: MarginSettings) -> tuple[str, str] | None:
    if any(leverage != 1 for leverage in margin.leverage.values()):
        return "leverage", "trades without leverage; set it to 1"
    if margin.funding:
        return "funding", "does not pay funding; set funding to false"
    if margin.margin_mode != "cross":
        return "margin_mode", "has one wallet for all positions; set margin_mode to cross"
    if margin.settle_at_data_end:
        return "settle_at_data_end", "keeps a position when its candles end; set it to false"
    return None


def _run_in_sandbox(
    strategy: Strategy,
    config: SessionConfig,
    market: Market,
    on_progress: Callable[[float], object] | None,
    cancelled: Callable[[], bool] | None,
) -> EngineRun:
    """Run a session of the simulated exchange, driven by the strategy."""
    outcome = run(strategy, config, market, on_progress, cancelled)
    session = outcome.session
    timeframe = StrategyScope.of(strategy, config).timeframe
    times, equity = session.total_equity(timeframe // session.config.clock.interval)
    return EngineRun(
        results=session.results(),
        equity_time=times,
        equity=equity,
        fills=session.fills,
        trades=closed_trades(session.fills),
        signals=outcome.signals,
        candles=outcome.candles,
        positions=session.positions(),
    )
