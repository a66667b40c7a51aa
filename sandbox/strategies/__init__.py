"""Strategies: templates, cards and programs, compiled to one kind of object and run.

    strategy = compile_strategy({"template": "tpl_sma_cross", "timeframe": "1h"})
    outcome = run(strategy, SessionConfig(...), market)
    outcome.session.results(), closed_trades(outcome.session.fills)

This package needs TA-Lib and starlark-pyo3; the exchange does not.
"""

from candlestep.sandbox.indicators.indicators import KINDS as INDICATOR_KINDS
from candlestep.sandbox.strategies.broker import Signal
from candlestep.sandbox.strategies.card import Card
from candlestep.sandbox.strategies.progress import Cancelled
from candlestep.sandbox.strategies.run import Run, run
from candlestep.sandbox.strategies.signals import CardSignals, SignalPlan, signal_plan
from candlestep.sandbox.strategies.starlark_runner import ProgramFailed
from candlestep.sandbox.strategies.strategy import PROGRAM_HISTORY, Strategy, compile_strategy
from candlestep.sandbox.strategies.templates import TEMPLATES, Template

__all__ = [
    "INDICATOR_KINDS",
    "PROGRAM_HISTORY",
    "TEMPLATES",
    "Cancelled",
    "Card",
    "CardSignals",
    "ProgramFailed",
    "Run",
    "Signal",
    "SignalPlan",
    "Strategy",
    "Template",
    "compile_strategy",
    "run",
    "signal_plan",
]
