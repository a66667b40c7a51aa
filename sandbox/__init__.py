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
    ClientOrderIdInUse,
    FilterViolated,
    InsufficientBalance,
    InsufficientMargin,
    InvalidCandles,
    InvalidParameter,
    InvalidState,
    InvalidSymbol,
    LeverageLimit,
    NoPrice,
    OrderNotFound,
    OrderWouldMatch,
    RiskLimitExceeded,
    SandboxError,
    SymbolNotFound,
)
from candlestep.sandbox.exchange.account import Balance, Holding, Portfolio, Position
from candlestep.sandbox.exchange.clearing import Liquidation
from candlestep.sandbox.exchange.instruments import Filters, Instrument
from candlestep.sandbox.exchange.margin.funding import FundingPayment
from candlestep.sandbox.exchange.margin.reports import MarginBalance, MarginPosition
from candlestep.sandbox.exchange.margin.tiers import MarginTiers, Tier
from candlestep.sandbox.exchange.orders import Fill, Order
from candlestep.sandbox.exchange.risk import LeveragedRiskProfile, RiskProfile
from candlestep.sandbox.market.candles import Candle, Candles
from candlestep.sandbox.market.coverage import SessionWarning
from candlestep.sandbox.market.funding import FundingRates
from candlestep.sandbox.market.market import Market, Ticker
from candlestep.sandbox.performance.closed_trades import ClosedTrade, closed_trades
from candlestep.sandbox.performance.equity import EquityCurve, Snapshot
from candlestep.sandbox.performance.metrics import Metrics
from candlestep.sandbox.performance.results import PairResult, Results
from candlestep.sandbox.session import Session
from candlestep.sandbox.step import Step
from candlestep.sandbox.turn import Turn
from candlestep.sandbox.until import PriceLevel

__all__ = [
    "INTERVALS",
    "Balance",
    "Candle",
    "Candles",
    "ClientOrderIdInUse",
    "ClosedTrade",
    "EquityCurve",
    "Fill",
    "FilterViolated",
    "Filters",
    "FundingPayment",
    "FundingRates",
    "Holding",
    "Instrument",
    "InsufficientBalance",
    "InsufficientMargin",
    "InvalidCandles",
    "InvalidParameter",
    "InvalidState",
    "InvalidSymbol",
    "LeverageLimit",
    "LeveragedRiskProfile",
    "Liquidation",
    "MarginBalance",
    "MarginPosition",
    "MarginTiers",
    "Market",
    "Metrics",
    "NoPrice",
    "Order",
    "OrderNotFound",
    "OrderWouldMatch",
    "PairResult",
    "Portfolio",
    "Position",
    "PriceLevel",
    "Results",
    "RiskLimitExceeded",
    "RiskProfile",
    "SandboxError",
    "Session",
    "SessionConfig",
    "SessionWarning",
    "Snapshot",
    "Step",
    "SymbolNotFound",
    "Ticker",
    "Tier",
    "Turn",
    "closed_trades",
    "format_time",
    "interval_name",
    "parse_interval",
    "parse_time",
]
