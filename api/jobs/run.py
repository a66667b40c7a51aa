"""One run, from its spec to its outcome and files: the same code on every executor."""

import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from candlestep.api.jobs.run_errors import FAULT, OUT_OF_MEMORY
from candlestep.data.market.parts import Part, market_of
from candlestep.data.records.jobs import RunError, RunOutcome, RunSpec, RunSummary
from candlestep.data.run_files.run_files import write_equity, write_signals, write_trades
from candlestep.sandbox import Market, Metrics, Results, SandboxError, SessionConfig
from candlestep.sandbox.engines import EngineRun, run_engine
from candlestep.sandbox.errors import NoPrice
from candlestep.sandbox.exchange.margin.reports import MarginFigures
from candlestep.sandbox.money import AMOUNT_UNIT
from candlestep.sandbox.performance.metrics import EquitySeries, with_risk_free_rate
from candlestep.sandbox.strategies import compile_strategy


def execute_run(
    spec: RunSpec,
    parts: Sequence[Part],
    directory: Path,
    on_progress: Callable[[float], object],
    is_stopped: Callable[[], bool],
) -> RunOutcome:
    """Run ``spec`` on the market of these parts, write its files to ``directory``, return the outcome.

    Errors are returned in the outcome, not raised. ``is_stopped`` is called every few
    milliseconds; a run that it stops has the error ``CANCELLED``.
    """
    began = time.perf_counter()
    summary, error, files = None, None, []
    try:
        result = run_engine(
            spec.engine,
            compile_strategy(spec.strategy),
            session_config(spec),
            _market(spec, parts),
            on_progress,
            is_stopped,
        )
        summary = _summary(spec, result)
        files = _write(directory, spec, result)
    except SandboxError as refusal:
        error = RunError(refusal.code, refusal.message)
    except MemoryError:
        error = OUT_OF_MEMORY
    except OSError as failure:
        error = RunError(
            "STORAGE_UNAVAILABLE", f"cannot write the results: {failure.strerror or failure}"
        )
    except BaseException as fault:
        # A panic of Starlark is not an Exception, not even the one for lack of memory.
        if isinstance(fault, KeyboardInterrupt | SystemExit):
            raise
        if "out of memory" in str(fault):
            error = OUT_OF_MEMORY
        else:
            traceback.print_exc(file=sys.stderr)
            error = FAULT
    return RunOutcome(
        summary=None if error else summary,
        error=error,
        files=files,
        seconds=round(time.perf_counter() - began, 6),
        host=platform.node(),
    )


def session_config(spec: RunSpec) -> SessionConfig:
    """Return the configuration of the run's session; raises ``InvalidParameter``."""
    return SessionConfig(
        start_time=spec.start_time,
        end_time=spec.end_time,
        starting_balance=spec.starting_balance,
        candle_interval=spec.interval // 1000,
        allow_gaps=True,  # The period was cut to the candles when the run was planned.
        **spec.config,
    )


def _market(spec: RunSpec, parts: Sequence[Part]) -> Market:
    market = market_of(parts)
    known = () if market is None else market.symbols
    missing = [
        pair
        for pair in sorted({*spec.pairs})
        if market is None
        or pair not in known
        or not market.candles_of(pair).has_any(spec.start_time, spec.end_time)
    ]
    if missing or market is None:
        raise NoPrice(
            f"there are no candles of {', '.join(missing)} in the period of the run;"
            " GET /api/v1/market/data-range lists the available periods",
            pairs=missing,
        )
    return market


def _summary(spec: RunSpec, result: EngineRun) -> RunSummary:
    results, trades = result.results, result.trades
    durations = [trade.exit_time - trade.entry_time for trade in trades]
    return RunSummary(
        final_equity=results.final_equity,
        total_pnl=results.total_pnl,
        roi_pct=results.roi_pct,
        total_fees=results.total_fees,
        metrics=_metrics(spec, result),
        by_pair=list(results.by_pair),
        candles=result.candles,
        signals=len(result.signals),
        fills=len(result.fills),
        closed_trades=len(trades),
        mean_trade_seconds=sum(durations) / len(durations) / 1000 if durations else None,
        open_positions=len(result.positions),
        open_value=result.open_value,
        unrealized_pnl=result.unrealized_pnl,
        margin=margin_figures(results),
    )


def margin_figures(results: Results) -> MarginFigures | None:
    """Return what only the results of a session on perpetuals have; None on spot."""
    if results.liquidations is None:
        return None
    fields = {name: getattr(results, name) for name in MarginFigures.__struct_fields__}
    return MarginFigures(**fields)


def _metrics(spec: RunSpec, result: EngineRun) -> Metrics:
    """Return the metrics of a run, with its ratios in excess of its risk-free rate."""
    metrics = result.results.metrics
    if not spec.risk_free_rate:
        return metrics
    equity = np.asarray(result.equity, dtype=np.float64) * float(AMOUNT_UNIT)
    series = EquitySeries(result.equity_time, equity)
    return with_risk_free_rate(metrics, series, float(spec.starting_balance), spec.risk_free_rate)


def _write(directory: Path, spec: RunSpec, result: EngineRun) -> list[str]:
    write_equity(directory, result.equity_time, result.equity)
    write_trades(directory, result.trades)
    if not spec.store_signals:
        return ["equity", "trades"]
    write_signals(directory, result.signals)
    return ["equity", "trades", "signals"]
