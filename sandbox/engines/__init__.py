"""Engines: the same strategy executed by this exchange, vectorbt or backtrader.

``engines`` lists those that are installed; ``run_engine`` runs a strategy with one of them. Every
engine gets the same signals, and is reported by the same ledger and metrics.
"""

from candlestep.sandbox.engines.ledger import EngineRun
from candlestep.sandbox.engines.run import engines, run_engine

__all__ = ["EngineRun", "engines", "run_engine"]
