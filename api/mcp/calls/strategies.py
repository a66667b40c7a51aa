"""Tools that run a whole strategy as a job, and follow it."""

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from candlestep.api.jobs import planning
from candlestep.api.jobs.margin import require_margin_data
from candlestep.api.mcp.answers import JobShown
from candlestep.api.mcp.arguments import Job, RunStrategy
from candlestep.api.mcp.caller import CALLER
from candlestep.api.mcp.calls.data import exchange_of
from candlestep.api.mcp.text import cents, percent, table
from candlestep.api.schemas.decoding import with_numbers
from candlestep.api.schemas.fields import money
from candlestep.api.services import Services
from candlestep.data.records.jobs import JobOrigin, JobRecord, RunSpec, RunSummary
from candlestep.data.run_files.run_files import read_trades_json, run_directory
from candlestep.sandbox import InvalidParameter, format_time, interval_name, parse_interval
from candlestep.sandbox.money import parse_number
from candlestep.sandbox.strategies import Strategy

_ORIGIN: JobOrigin = "jobs"
_FEE_BPS = Decimal(10)
"""The fee of a run that names none, that of sessions: 0.1 %, in basis points."""
_NAMES = planning.FieldNames(session={"starting_balance": "balance", "end_time": "end"})
_OF_CARD = _NAMES._replace(strategy_within="strategy.")
_MOST_WARNINGS = 3


class _Trade(msgspec.Struct):
    side: str
    symbol: str
    entry_time: str
    entry_price: str
    exit_time: str
    exit_price: str
    qty: str
    pnl: str


async def run_strategy(services: Services, arguments: RunStrategy) -> JobShown:
    """Check a strategy against the candles there are, run it as a job, and wait for it a while."""
    account_id = CALLER.get().account_id
    request, spec = await services.in_thread(_plan, services, arguments)
    job_id = None if arguments.key is None else _job_id(account_id, arguments.key)
    record = await services.jobs.submit(account_id, _ORIGIN, [spec], request, job_id)
    record = await services.jobs.wait(account_id, record.job_id, arguments.wait_s)
    return await _show(services, record, 0)


async def job(services: Services, arguments: Job) -> JobShown:
    """Return the progress of a job and its figures, or end it."""
    account_id = CALLER.get().account_id
    if arguments.cancel:
        record = await services.jobs.cancel(account_id, arguments.job_id)
    else:
        record = await services.jobs.get(account_id, arguments.job_id)
    return await _show(services, record, arguments.trades)


def _plan(services: Services, arguments: RunStrategy) -> tuple[dict[str, Any], RunSpec]:
    """Return the request as the API of jobs stores it, and the run. Blocks."""
    content = _content(arguments.strategy)
    interval = parse_interval(arguments.timeframe, "timeframe")
    if not arguments.symbols:
        raise InvalidParameter("symbols", 'is empty; name some, such as ["BTCUSDT"]')
    exchange = exchange_of(services.catalogue, arguments.symbols)
    requested = planning.MarketScope.resolve(
        services.catalogue, exchange, arguments.symbols, _NAMES
    )
    period = planning.Period.parse(arguments.start, arguments.end, interval, _NAMES)
    strategy = _compile(content, interval, requested)
    planning.require_one_price(strategy, requested)
    market = requested.with_candles(period, interval, "list_data")
    if market.left_out:
        strategy = _compile(content, interval, market)
    costs = _costs(arguments)
    covered = market.clip(period, interval)
    spec = planning.plan_run(strategy, market, covered, interval, arguments.balance, costs)
    require_margin_data(
        services.store, services.catalogue, spec, "symbols", planning.IMPORT_FUNDING
    )
    request = {
        "template_id": strategy.content.get("template"),
        "params": strategy.content.get("parameters"),
        "card": strategy.content if strategy.kind == "card" else None,
        "strategy_id": None,
        "exchange": spec.exchange,
        "symbols": requested.symbols,
        "timeframe": interval_name(interval),
        "start": format_time(period.start),
        "end": format_time(period.end),
        "capital": money(Decimal(spec.starting_balance)),
        "leverage": 1,
        "fee_model": "fixed_bps",
        "fee_bps": spec.config.get("fee_bps"),
    }
    return request, spec


def _content(strategy: Any) -> dict[str, Any]:
    """Return the content of a strategy: the text of a program stands for one with a source."""
    if isinstance(strategy, str):
        return {"source": strategy}
    if not isinstance(strategy, Mapping):
        raise InvalidParameter(
            "strategy", "must be a card, {template, parameters}, or the text of a program"
        )
    return dict(with_numbers(dict(strategy)))


def _compile(content: Mapping[str, Any], interval: int, market: planning.MarketScope) -> Strategy:
    scope = {"timeframe": interval_name(interval), "symbols": market.symbols}
    return planning.compile_for(content, scope, _OF_CARD)


def _costs(arguments: RunStrategy) -> planning.CostTerms:
    """Return the costs: a fee as basis points, slippage by volume unless it is given."""
    fee = _FEE_BPS if arguments.fee is None else parse_number("fee", arguments.fee) * 10_000
    given = arguments.slippage
    slippage = None if given is None or given == "volume" else 0 if given == "none" else given
    return planning.CostTerms(fee_model="fixed_bps", fee_bps=fee, slippage_bps=slippage)


def _job_id(account_id: str, key: str) -> str:
    """Return the id of the job that a key of an account stands for."""
    return "mcp_" + hashlib.sha256(f"{account_id}\0{key}".encode()).hexdigest()[:32]


async def _show(services: Services, record: JobRecord, trades: int) -> JobShown:
    rows: list[str] = []
    if trades and record.summary is not None:
        directory = run_directory(services.settings.home, record.job_id, 0)
        raw = await services.read(read_trades_json, directory)
        if raw is not None:
            closed = await services.read(msgspec.json.decode, raw, type=list[_Trade])
            rows = [_trade_row(trade) for trade in closed[-trades:]]
    error = record.error
    is_waiting = not record.has_ended
    return JobShown(
        job_id=record.job_id,
        status=f"job {record.job_id} {record.status}"
        + (f" {record.progress:.0%}" if is_waiting else ""),
        metrics="" if record.summary is None else _metrics(record.summary),
        trades=table("side symbol quantity entry price exit price pnl", rows),
        warnings="\n".join(warning.message for warning in record.warnings[:_MOST_WARNINGS]),
        error="" if error is None else f"{error.code}: {error.message}",
        next=f'job(job_id="{record.job_id}") again in a while'
        if is_waiting
        else "job with trades shows its trades; run_strategy with a change",
    )


def _metrics(summary: RunSummary) -> str:
    metrics = summary.metrics
    ratio = "{:.2f}".format
    figures: dict[str, str] = {
        "return": percent(summary.roi_pct),
        "equity": cents(summary.final_equity),
        "max drawdown": percent(metrics.max_drawdown_pct),
        "Sharpe": "-" if metrics.sharpe_ratio is None else ratio(metrics.sharpe_ratio),
        "closed trades": str(summary.closed_trades),
        "fees": cents(summary.total_fees),
        "win rate": "-" if metrics.win_rate is None else percent(metrics.win_rate),
        "profit factor": "-" if metrics.profit_factor is None else ratio(metrics.profit_factor),
        "open positions": str(summary.open_positions),
    }
    return ", ".join(f"{name} {value}" for name, value in figures.items())


def _trade_row(trade: _Trade) -> str:
    return (
        f"{trade.side} {trade.symbol} {trade.qty} {trade.entry_time} {trade.entry_price}"
        f" {trade.exit_time} {trade.exit_price} {trade.pnl}"
    )
