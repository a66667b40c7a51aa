"""The account of a session, at current prices; on perpetuals, its margin and its funding too."""

from collections.abc import Iterable
from decimal import Decimal
from functools import partial

from candlestep.api.http.route import JsonBytes, Request
from candlestep.api.routes.stepping.session_commands import (
    FIND_ERRORS,
    apply,
    change_route,
    find_session,
    read_route,
)
from candlestep.api.schemas import account as schemas
from candlestep.api.schemas.account import (
    BalanceResponse,
    BalancesResponse,
    FundingPaymentsResponse,
    MarginResponse,
    PortfolioResponse,
    PositionResponse,
    PositionsResponse,
)
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import PageSize, PageStart, money
from candlestep.api.services import Services
from candlestep.api.sessions.commands import MarginCommand
from candlestep.data.journal.records import (
    LeverageRecord,
    MarginModeRecord,
    MarginTransferRecord,
)
from candlestep.sandbox import FundingPayment
from candlestep.sandbox.money import total

_BASE = "/api/v1/backtest/{session_id}/account"


class FundingQuery(RequestBody):
    limit: PageSize = 100
    offset: PageStart = 0


async def balance(services: Services, request: Request) -> BalancesResponse:
    """Return the balances of the account's currency and of what is held."""
    session = (await find_session(services, request)).session
    return BalancesResponse([BalanceResponse.of(balance) for balance in session.balances()])


async def positions(services: Services, request: Request) -> PositionsResponse:
    """Return the open positions at current prices."""
    session = (await find_session(services, request)).session
    return PositionsResponse([PositionResponse.of(position) for position in session.positions()])


async def portfolio(services: Services, request: Request) -> PortfolioResponse:
    """Return the account at current prices."""
    session = (await find_session(services, request)).session
    return PortfolioResponse.of(session.portfolio())


async def margin(services: Services, request: Request) -> MarginResponse:
    """Return the margin of a session on perpetuals, at current mark prices."""
    session = (await find_session(services, request)).session
    return MarginResponse.of(session.margin())


async def funding(services: Services, request: Request) -> FundingPaymentsResponse:
    """List the funding paid and received up to now, oldest first."""
    payments = (await find_session(services, request)).session.funding_payments
    query: FundingQuery = request.query
    page = payments[query.offset : query.offset + query.limit]
    amount = total(payment.amount for payment in payments)
    return funding_answer(page, len(payments), amount)


def funding_answer(
    payments: Iterable[FundingPayment], total: int, total_amount: Decimal
) -> FundingPaymentsResponse:
    """Return a page of funding payments as an answer."""
    answers = [schemas.FundingPaymentResponse.of(payment) for payment in payments]
    return FundingPaymentsResponse(answers, len(answers), total, money(total_amount))


async def set_leverage(services: Services, request: Request) -> JsonBytes:
    """Set the leverage of a perpetual; an isolated wallet stays as it is.

    Refused with 409 if it is lowered with an isolated position, and with 422 if margin does not
    suffice, or if the position and its orders are larger than the tiers allow.
    """
    body: schemas.LeverageRequest = request.body
    change = LeverageRecord(symbol=body.symbol, leverage=str(body.leverage))
    return await apply(services, request, "account/leverage", MarginCommand(change))


async def set_margin_mode(services: Services, request: Request) -> JsonBytes:
    """Set the margin mode of a perpetual; refused with 409 with a position or a pending order."""
    body: schemas.MarginModeRequest = request.body
    change = MarginModeRecord(symbol=body.symbol, margin_mode=body.margin_mode)
    return await apply(services, request, "account/margin-mode", MarginCommand(change))


async def transfer_margin(services: Services, request: Request) -> JsonBytes:
    """Move margin to the isolated wallet of a perpetual, or with a negative amount back from it.

    At most the available balance is added. What is taken out must leave the initial margin.
    """
    body: schemas.MarginTransferRequest = request.body
    change = MarginTransferRecord(symbol=body.symbol, amount=str(body.amount))
    return await apply(services, request, "account/margin", MarginCommand(change))


_margin_route = partial(
    change_route,
    for_session_key=True,
    errors=(*FIND_ERRORS, "SYMBOL_NOT_FOUND", "INSUFFICIENT_MARGIN", "LEVERAGE_LIMIT"),
)

ROUTES = [
    read_route(f"{_BASE}/balance", balance, "Balances"),
    read_route(f"{_BASE}/positions", positions, "Open positions"),
    read_route(f"{_BASE}/portfolio", portfolio, "Portfolio"),
    read_route(f"{_BASE}/margin", margin, "Margin of perpetuals"),
    read_route(f"{_BASE}/funding", funding, "Funding payments", query=FundingQuery),
    _margin_route(
        f"{_BASE}/leverage",
        set_leverage,
        "Set the leverage of a perpetual",
        schemas.LeverageResponse,
        body=schemas.LeverageRequest,
    ),
    _margin_route(
        f"{_BASE}/margin-mode",
        set_margin_mode,
        "Set the margin mode of a perpetual",
        schemas.MarginModeResponse,
        body=schemas.MarginModeRequest,
    ),
    _margin_route(
        f"{_BASE}/margin",
        transfer_margin,
        "Move margin to or from an isolated position",
        schemas.MarginTransferResponse,
        body=schemas.MarginTransferRequest,
    ),
]
