"""The market of a session, as of its virtual clock."""

from functools import partial
from typing import Annotated

from msgspec import UNSET, Meta

from candlestep.api.http.route import Request
from candlestep.api.routes.stepping.session_commands import (
    FIND_ERRORS,
    find_session,
    read_route,
    session_symbol,
)
from candlestep.api.schemas import market as schemas
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import INTERVAL_TEXTS, PageSize, TimeInput, money
from candlestep.api.schemas.prices import mark_price_writer, price_writer
from candlestep.api.services import Services
from candlestep.sandbox import (
    Candle,
    InvalidParameter,
    Session,
    format_time,
    interval_name,
    parse_interval,
    parse_time,
)
from candlestep.sandbox.clock import bucket_start

_BASE = "/api/v1/backtest/{session_id}/market"


class CandlesQuery(RequestBody):
    interval: (
        Annotated[
            str,
            Meta(
                description="A name, or seconds; left out: the session's.",
                extra_json_schema={"enum": INTERVAL_TEXTS},
            ),
        ]
        | None
    ) = None
    limit: PageSize = 100
    start_time: Annotated[
        TimeInput | None,
        Meta(
            description="Return the first `limit` candles that open from here on, not the latest."
        ),
    ] = None
    end_time: Annotated[
        TimeInput | None,
        Meta(description="Only candles complete by then; later than the virtual time, by that."),
    ] = None


class FundingRatesQuery(RequestBody):
    limit: PageSize = 100


async def prices(services: Services, request: Request) -> schemas.PricesResponse:
    """Return the price of each pair that has one."""
    session = (await find_session(services, request)).session
    prices = price_writer(session.market)(session.time)
    marks = mark_price_writer(session)
    return schemas.PricesResponse(
        prices, format_time(session.time), UNSET if marks is None else marks(session.time)
    )


async def price(services: Services, request: Request) -> schemas.PriceResponse:
    """Return the price of one pair."""
    session = (await find_session(services, request)).session
    symbol = session_symbol(session, request.path["symbol"])
    return schemas.PriceResponse(symbol, money(session.price(symbol)), format_time(session.time))


async def ticker(services: Services, request: Request) -> schemas.TickerResponse:
    """Return the last 24 hours of one pair."""
    session = (await find_session(services, request)).session
    return schemas.TickerResponse.of(
        session.ticker(session_symbol(session, request.path["symbol"]))
    )


async def candles(services: Services, request: Request) -> schemas.CandlesResponse:
    """Return the latest complete candles of one pair, oldest first; none if it has no candles.

    With ``start_time``, those of a range: the first ``limit`` that open from there on.
    """
    hosted = await find_session(services, request)
    record, session = hosted.record, hosted.session
    symbol = session_symbol(session, request.path["symbol"])
    query: CandlesQuery = request.query
    interval = None if query.interval is None else parse_interval(query.interval)
    if symbol in record.pairs and symbol not in session.market.symbols:
        return schemas.CandlesResponse(symbol, interval_name(interval or record.interval), [], 0)
    interval = interval or session.default_interval(symbol)
    if query.start_time is None and query.end_time is None:
        found = list(session.candles(symbol, interval // 1000, query.limit))
    else:
        found = await services.read(_candles_between, session, symbol, interval, query)
    answers = [schemas.CandleResponse.of(candle) for candle in found]
    return schemas.CandlesResponse(symbol, interval_name(interval), answers, len(answers))


async def funding(services: Services, request: Request) -> schemas.FundingRatesResponse:
    """Return the latest funding rates that have been settled by now, oldest first.

    The rate of a settlement to come is never among them.
    """
    session = (await find_session(services, request)).session
    symbol = session_symbol(session, request.path["symbol"])
    query: FundingRatesQuery = request.query
    rates = session.market.funding_of(symbol)
    past = 0 if rates is None else rates.first_after(session.time)
    if rates is None or not past:
        return schemas.FundingRatesResponse(symbol, [], 0, 0, None)
    rows = [rates.row(index) for index in range(max(0, past - query.limit), past)]
    return schemas.FundingRatesResponse(
        symbol,
        [schemas.FundingRateResponse.of(row) for row in rows],
        len(rows),
        past,
        format_time(rows[-1].time + rows[-1].interval),
    )


def _candles_between(
    session: Session, symbol: str, interval: int, query: CandlesQuery
) -> list[Candle]:
    """Return the candles of a range, clipped to the virtual time."""
    end = session.time
    if query.end_time is not None:
        end = min(end, parse_time(query.end_time, "end_time"))
    if query.start_time is None:
        return list(session.market.candles(symbol, end, interval // 1000, query.limit))
    start = parse_time(query.start_time, "start_time")
    if query.end_time is not None and parse_time(query.end_time, "end_time") <= start:
        raise InvalidParameter("end_time", "must be after start_time")
    series = session.market.candles_of(symbol)
    first = int(series.open_time.searchsorted(start))
    # The rows of ``limit`` candles, or of more where some of their rows are missing.
    last = min(len(series), first + query.limit * (interval // series.intervals[0])) - 1
    if last < first:
        return []
    end = min(end, bucket_start(series.complete_time_of(last) - 1, interval) + interval)
    wanted = min((end - start) // interval, last - first) + 1
    if wanted < 1:
        return []
    found = session.market.candles(symbol, end, interval // 1000, wanted)
    return [candle for candle in found if candle.open_time >= start][: query.limit]


_symbol_route = partial(read_route, errors=(*FIND_ERRORS, "SYMBOL_NOT_FOUND"))

ROUTES = [
    read_route(f"{_BASE}/prices", prices, "Prices"),
    _symbol_route(f"{_BASE}/price/{{symbol}}", price, "Price of a pair"),
    _symbol_route(f"{_BASE}/ticker/{{symbol}}", ticker, "24 hours of a pair"),
    _symbol_route(f"{_BASE}/candles/{{symbol}}", candles, "Candles of a pair", query=CandlesQuery),
    _symbol_route(
        f"{_BASE}/funding/{{symbol}}", funding, "Funding rates of a perpetual",
        query=FundingRatesQuery,
    ),
]  # fmt: skip
