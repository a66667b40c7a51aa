"""Tools that read a running session: its market, its account, its orders and trades."""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from candlestep.api.mcp.answers import AccountShown, Listed, Observed
from candlestep.api.mcp.arguments import History, Observe, OfSession
from candlestep.api.mcp.calls.finding import find_session
from candlestep.api.mcp.text import (
    MOST_BYTES,
    cents,
    open_order_rows,
    order_text,
    percent,
    price_text,
    quantity_text,
    session_line,
    short_time,
    table,
    volume_text,
)
from candlestep.api.schemas.orders import OrderResponse
from candlestep.api.services import Services
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import (
    Candle,
    Fill,
    InvalidParameter,
    MarginPosition,
    Market,
    Position,
    Session,
    format_time,
    parse_interval,
)
from candlestep.sandbox.clock import DAY, HOUR
from candlestep.sandbox.indicators.bars import Bars
from candlestep.sandbox.indicators.indicators import (
    KINDS,
    Indicator,
    Values,
    history_of,
    parse_indicators,
    value_names,
)
from candlestep.sandbox.market.candles import PRICES

DEFAULT_CANDLES = 24
_DEFAULT_BYTES = 970
"""The bytes of the text of an observation with default arguments: twice that and keys is 2 KB."""
_MOST_SYMBOLS = 5
_LEAST_BYTES = 250
"""The bytes for the candles of a symbol, at least."""
_OPEN_BYTES = 1500
_UNITS_APART = 100
"""A table is rounded so that its highest and lowest price are this many to 1,000 units apart."""


async def observe(services: Services, arguments: Observe) -> Observed:
    """Return the market as of the virtual clock, what is held, and what is pending."""
    session = (await find_session(services, arguments.session_id, to_read=True)).session
    interval = parse_interval(arguments.interval, "interval")
    indicators = _parse_indicators(arguments.indicators or [])
    symbols, left_out = _symbols(session, arguments.symbols)
    line, time = session_line(session), session.time
    positions, orders = _positions(session), _open_orders(session)
    more = f"; symbols=[…] shows {left_out} more" if left_out else ""
    following = f"act, or step{more}"
    is_default = arguments.candles is None and not indicators
    others = sum(map(len, (line, positions, orders, following)))
    room = (_DEFAULT_BYTES if is_default else MOST_BYTES) - others
    count = arguments.candles or DEFAULT_CANDLES
    tables = []
    for symbol in symbols:
        ticker = _ticker(session, symbol)
        most_bytes = max(_LEAST_BYTES, room // len(symbols) - len(ticker))
        # Another command may step the session meanwhile: the candles are those as of this time.
        shown = await services.read(
            _candles, session.market, symbol, time, interval, count, indicators, most_bytes
        )
        tables.append(f"{ticker}\n{shown}")
    return Observed(
        line=line,
        market="\n".join(tables),
        positions=positions,
        open_orders=orders,
        next=following,
    )


async def account(services: Services, arguments: OfSession) -> AccountShown:
    """Return balances, positions, pending orders and what was realized."""
    session = (await find_session(services, arguments.session_id, to_read=True)).session
    portfolio = session.portfolio()
    balances = [
        f"{balance.asset} {quantity_text(balance.available)} {quantity_text(balance.locked)}"
        for balance in session.balances()
    ]
    fees = sum((fill.fee for fill in session.fills), Decimal(0))
    return AccountShown(
        line=session_line(session),
        balances=table("asset available locked", balances, _OPEN_BYTES),
        positions=_positions(session),
        open_orders=_open_orders(session),
        totals=f"realized {cents(portfolio.realized_pnl)} unrealized"
        f" {cents(portfolio.unrealized_pnl)} fees {cents(fees)} trades {len(session.fills)}",
        next="act, or history for what was traded",
    )


async def history(services: Services, arguments: History) -> Listed:
    """Return a page of the orders or trades, the newest last."""
    session = (await find_session(services, arguments.session_id, to_read=True)).session
    is_orders = arguments.what == "orders"
    total = session.order_count if is_orders else len(session.fills)
    stop = total if arguments.before is None else min(total, arguments.before - 1)
    first = max(0, stop - arguments.limit)
    if is_orders:
        rows = [_order_row(OrderResponse.of(order)) for order in session.orders[first:stop]]
        shown = table(f"{total} orders", rows)
    else:
        rows = [_trade_row(fill) for fill in session.fills[first:stop]]
        shown = table("id time side quantity symbol price fee pnl", rows)
    return Listed(
        line=session_line(session),
        rows=shown or f"no {arguments.what}",
        next=f"before={first + 1} shows earlier ones" if first else "observe, or act",
    )


def _symbols(session: Session, wanted: Sequence[str] | None) -> tuple[list[str], int]:
    """Return the symbols to show, and how many others there are; those held come first."""
    if wanted is not None:
        if not 1 <= len(wanted) <= _MOST_SYMBOLS:
            raise InvalidParameter("symbols", f"name 1 to {_MOST_SYMBOLS} symbols at a time")
        return [session.market.candles_of(normalise_symbol(name)).symbol for name in wanted], 0
    held = [position.symbol for position in session.positions()]
    known = list(dict.fromkeys([*held, *session.market.symbols]))
    return known[:_MOST_SYMBOLS], max(0, len(known) - _MOST_SYMBOLS)


def _ticker(session: Session, symbol: str) -> str:
    if symbol not in session.prices():
        return f"{symbol} has no price yet"
    day = session.ticker(symbol)
    return (
        f"{symbol} {price_text(day.close)} 24h {percent(day.price_change_pct)}"
        f" high {price_text(day.high)} low {price_text(day.low)}"
    )


def _positions(session: Session) -> str:
    columns = "position quantity entry unrealized"
    if session.config.market_type == "perp":
        columns += " leverage liquidation"
    return table(columns, list(map(_position_row, session.positions())), _OPEN_BYTES)


def _position_row(position: Position) -> str:
    row = (
        f"{position.symbol} {quantity_text(position.quantity)}"
        f" {price_text(position.avg_entry_price)} {cents(position.unrealized_pnl)}"
    )
    if not isinstance(position, MarginPosition):
        return row
    liquidation = position.liquidation_price
    return f"{row} {int(position.leverage)} " + (
        "-" if liquidation is None else price_text(liquidation)
    )


def _open_orders(session: Session) -> str:
    return table("open orders", open_order_rows(session.open_orders()), _OPEN_BYTES)


def _order_row(order: OrderResponse) -> str:
    return f"{order_text(order)} placed {short_time(order.created_at)}"


def _trade_row(fill: Fill) -> str:
    pnl = "-" if fill.realized_pnl is None else cents(fill.realized_pnl)
    return (
        f"{fill.id} {short_time(format_time(fill.time))} {fill.side}"
        f" {quantity_text(fill.quantity)} {fill.symbol} {price_text(fill.price)}"
        f" {cents(fill.fee)} {pnl}"
    )


def _parse_indicators(given: Sequence[str]) -> dict[str, Indicator]:
    """Return the indicators of texts such as ``bollinger:20:2``, by name."""
    raw = {}
    for place, text in enumerate(given):
        name, *numbers = text.strip().lower().split(":")
        kind = KINDS.get(name)
        if kind is None:
            raise InvalidParameter(
                f"indicators[{place}]", f"must be one of {', '.join(KINDS)}, such as rsi:14"
            )
        if len(numbers) > len(kind.parameters):
            known = ":".join(parameter.name for parameter in kind.parameters)
            raise InvalidParameter(f"indicators[{place}]", f"is written {name}:{known}".rstrip(":"))
        parameters = zip(kind.parameters, numbers, strict=False)
        raw["_".join([name, *numbers]).replace(".", "_")] = {"kind": name} | {
            parameter.name: _number(number, f"indicators[{place}]")
            for parameter, number in parameters
        }
    return parse_indicators(raw)


def _number(text: str, field: str) -> int | float:
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        raise InvalidParameter(field, "takes numbers, such as rsi:14") from None


def _candles(
    market: Market,
    symbol: str,
    time: int,
    interval: int,
    count: int,
    indicators: dict[str, Indicator],
    most_bytes: int,
) -> str:
    """Return the last complete candles as of a time as a table, with the values of indicators."""
    found = market.candles(symbol, time, interval // 1000, count + history_of(indicators))
    if not len(found):
        return "no complete candle yet"
    opened = np.array([candle.open_time for candle in found], dtype=np.int64)
    columns = [
        np.array([float(getattr(candle, name)) for candle in found], dtype=float) for name in PRICES
    ]
    values = Values(Bars(symbol, opened + interval, *columns), indicators)
    decimals = _decimals(found[-count:])
    times = [int(opening) for opening in opened[-count:]]
    is_of_a_day = times[-1] - times[0] < DAY
    parts = [[_time_text(opening, interval, is_of_a_day=is_of_a_day) for opening in times]]
    parts += [[f"{price:.{decimals}f}" for price in column[-count:]] for column in columns[:4]]
    parts.append([volume_text(float(volume)) for volume in columns[4][-count:]])
    names = [name for name in value_names(indicators) if name not in PRICES]
    for name in names:
        latest = values[name][-count:]
        parts.append(["-" if np.isnan(value) else f"{value:.5g}" for value in latest])
    rows = [" ".join(row) for row in zip(*parts, strict=True)]
    return table(" ".join(["time", *PRICES, *names]), rows, most_bytes)


def _decimals(candles: Sequence[Candle]) -> int:
    """Return the decimals of a table: enough to tell its prices apart, no more than they have."""
    prices = [getattr(candle, name) for candle in candles for name in PRICES[:4]]
    span = max(prices) - min(prices)
    needed = max(len(quantity_text(price).partition(".")[2]) for price in prices)
    return min(needed, max(0, -(span / _UNITS_APART).adjusted())) if span else needed


def _time_text(time: int, interval: int, *, is_of_a_day: bool) -> str:
    """Return an open time as shortly as its table allows: ``01-05``, ``05T03``, ``03h``, ``03:15``."""
    text = format_time(time)
    if interval >= DAY:
        return text[5:10]
    if interval % HOUR == 0:
        return f"{text[11:13]}h" if is_of_a_day else f"{text[8:10]}T{text[11:13]}"
    return text[11:16]
