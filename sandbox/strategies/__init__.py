"""Strategies beside the exchange: said in one of three ways, compiled to one object, and run.

    strategy = compile_strategy({"template": "tpl_sma_cross", "timeframe": "1h"})
    done = run(strategy, SessionConfig(...), market)
    done.session.results(), closed_trades(done.session.fills)

Needs TA-Lib and starlark-pyo3, which the exchange itself does not.
"""

from sandbox.strategies.card import Card
from sandbox.strategies.decisions import DecisionPlan, Decisions, decision_plan
from sandbox.strategies.desk import Signal
from sandbox.strategies.driver import ProgramFailed
from sandbox.strategies.indicators import KINDS as INDICATOR_KINDS
from sandbox.strategies.runner import Run, run
from sandbox.strategies.strategy import PROGRAM_HISTORY, Strategy, compile_strategy
from sandbox.strategies.templates import TEMPLATES, Template
from sandbox.strategies.watch import Cancelled

__all__ = [
    "INDICATOR_KINDS",
    "PROGRAM_HISTORY",
    "TEMPLATES",
    "Cancelled",
    "Card",
    "DecisionPlan",
    "Decisions",
    "ProgramFailed",
    "Run",
    "Signal",
    "Strategy",
    "Template",
    "compile_strategy",
    "decision_plan",
    "run",
]
