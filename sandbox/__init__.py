"""A simulated exchange that an agent steps through candle by candle.

Pure and deterministic: no I/O, no wall clock, no randomness. Times are milliseconds since the
epoch (UTC), amounts are ``decimal.Decimal``.
"""

from sandbox.account import Balance, Holding, Portfolio, Position
from sandbox.candles import Candle, Candles
from sandbox.clock import INTERVALS, format_time, interval_name, parse_interval, parse_time
from sandbox.config import SessionConfig
from sandbox.errors import (
    InsufficientBalance,
    InvalidCandles,
    InvalidParameter,
    InvalidState,
    NoPrice,
    OrderNotFound,
    RiskLimitExceeded,
    SandboxError,
    SymbolNotFound,
)
from sandbox.history import EquityCurve, Snapshot
from sandbox.market import Market, Ticker
from sandbox.metrics import Metrics
from sandbox.orders import Fill, Order
from sandbox.results import PairResult, Results
from sandbox.risk import RiskProfile
from sandbox.session import Session, Step
from sandbox.trades import ClosedTrade, closed_trades

__all__ = [
    "INTERVALS",
    "Balance",
    "Candle",
    "Candles",
    "ClosedTrade",
    "EquityCurve",
    "Fill",
    "Holding",
    "InsufficientBalance",
    "InvalidCandles",
    "InvalidParameter",
    "InvalidState",
    "Market",
    "Metrics",
    "NoPrice",
    "Order",
    "OrderNotFound",
    "PairResult",
    "Portfolio",
    "Position",
    "Results",
    "RiskLimitExceeded",
    "RiskProfile",
    "SandboxError",
    "Session",
    "SessionConfig",
    "Snapshot",
    "Step",
    "SymbolNotFound",
    "Ticker",
    "closed_trades",
    "format_time",
    "interval_name",
    "parse_interval",
    "parse_time",
]
