"""A simulated exchange that an agent steps through candle by candle.

A ``Session`` trades one account on a ``Market`` of candles between the two times of its
``SessionConfig``. The agent places orders and steps; ``exchange`` lets time pass from event to
event, matches orders along each candle's path, and keeps an exact ledger with fees, slippage and
risk limits. ``performance`` then derives equity, metrics and closed trades. On top, ``strategies``
compiles templates, cards and programs over ``indicators`` and runs them in a session, and
``engines`` runs the same strategies with vectorbt or backtrader.

Everything is pure and deterministic: no I/O, no wall clock, no randomness. Times are milliseconds
since the epoch (UTC), amounts are ``decimal.Decimal``.
"""

from candlestep.sandbox.clock import (
    INTERVALS,
    format_time,
    interval_name,
    parse_interval,
    parse_time,
)
from candlestep.sandbox.config import SessionConfig
from candlestep.sandbox.errors import (
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
from candlestep.sandbox.exchange.account import Balance, Holding, Portfolio, Position
from candlestep.sandbox.exchange.orders import Fill, Order
from candlestep.sandbox.exchange.risk import RiskProfile
from candlestep.sandbox.market.candles import Candle, Candles
from candlestep.sandbox.market.market import Market, Ticker
from candlestep.sandbox.performance.closed_trades import ClosedTrade, closed_trades
from candlestep.sandbox.performance.equity import EquityCurve, Snapshot
from candlestep.sandbox.performance.metrics import Metrics
from candlestep.sandbox.performance.results import PairResult, Results
from candlestep.sandbox.session import Session, Step

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
