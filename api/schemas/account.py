"""The account of a session in answers: positions, portfolio, balances, and margin."""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import (
    Leverage,
    Money,
    SignedNumber,
    Symbol,
    Time,
    money,
    optional_money,
)
from candlestep.api.schemas.response import Response
from candlestep.sandbox import (
    FundingPayment,
    Liquidation,
    MarginPosition,
    Portfolio,
    Session,
    format_time,
)
from candlestep.sandbox.exchange.clearing import MarginMode
from candlestep.sandbox.exchange.margin.account import MarginAccount, MarginTerms
from candlestep.sandbox.exchange.orders import Side

_Perp = Money | UnsetType
_OptionalPerp = Money | UnsetType | None


class PositionResponse(Response, frozen=True):
    """An open position. The fields from ``side`` on are those of perpetuals."""

    symbol: str
    quantity: Annotated[Money, Meta(description="Of a perpetual, negative for a short.")]
    avg_entry_price: Money
    cost_basis: Money
    current_price: Money
    market_value: Money
    unrealized_pnl: Money
    realized_pnl: Money
    side: Literal["long", "short"] | UnsetType = UNSET
    leverage: Annotated[
        int | UnsetType, Meta(description="The position may be so many times its margin.")
    ] = UNSET
    margin_mode: MarginMode | UnsetType = UNSET
    entry_price: Annotated[_Perp, Meta(description="Average, without fees.")] = UNSET
    mark_price: _Perp = UNSET
    notional: Annotated[_Perp, Meta(description="Size at the mark price.")] = UNSET
    initial_margin: Annotated[_Perp, Meta(description="Notional over leverage.")] = UNSET
    maintenance_margin: Annotated[
        _Perp, Meta(description="With less margin than this, it is liquidated.")
    ] = UNSET
    isolated_wallet: Annotated[_Perp, Meta(description="Its own margin; 0 in cross mode.")] = UNSET
    margin_ratio: Annotated[
        _OptionalPerp,
        Meta(
            description="Maintenance margin over margin balance, in cross mode that of all cross"
            " positions: it is liquidated at 1. Null without a balance."
        ),
    ] = UNSET
    liquidation_price: Annotated[
        _OptionalPerp,
        Meta(
            description="Mark price at which it is liquidated, if the others stand still. Null if"
            " there is none."
        ),
    ] = UNSET
    bankruptcy_price: Annotated[
        _OptionalPerp, Meta(description="Mark price at which its margin is used up.")
    ] = UNSET
    funding_paid: Annotated[
        _Perp, Meta(description="Funding that the symbol paid less what it received.")
    ] = UNSET
    max_notional: Annotated[
        _OptionalPerp, Meta(description="Largest notional at the leverage; null without a bound.")
    ] = UNSET

    @classmethod
    def of(cls, position: Any, /, **fields: Any) -> Self:
        """Return the answer that shows a position."""
        if isinstance(position, MarginPosition):
            fields["leverage"] = int(position.leverage)
        return super().of(position, **fields)


class PositionsResponse(msgspec.Struct, frozen=True):
    positions: list[PositionResponse]


class PortfolioResponse(Response, frozen=True):
    total_equity: Money
    available_cash: Money
    locked_cash: Money
    position_value: Money
    unrealized_pnl: Money
    realized_pnl: Money
    starting_balance: Money
    positions: list[PositionResponse]
    wallet_balance: Annotated[
        _Perp,
        Meta(description="Of perpetuals: cash without the PnL of open positions."),
    ] = UNSET
    margin_balance: Annotated[
        _Perp, Meta(description="Of perpetuals: wallet balance and unrealized PnL.")
    ] = UNSET
    funding: Annotated[
        _Perp, Meta(description="Of perpetuals: funding received less funding paid.")
    ] = UNSET

    @classmethod
    def of(cls, portfolio: Portfolio, /, **fields: Any) -> Self:
        """Return the answer that shows a portfolio."""
        positions = [PositionResponse.of(position) for position in portfolio.positions]
        return super().of(portfolio, positions=positions, **fields)


class BalanceResponse(Response, frozen=True):
    asset: str
    available: Money
    locked: Money
    total: Money


class BalancesResponse(msgspec.Struct, frozen=True):
    balances: list[BalanceResponse]


class MarginResponse(Response, frozen=True):
    """The margin of a session on perpetuals."""

    wallet_balance: Annotated[
        Money, Meta(description="Starting balance, closed PnL, funding and insurance, less fees.")
    ]
    cross_wallet: Annotated[
        Money, Meta(description="The part that no isolated position has for itself.")
    ]
    unrealized_pnl: Money
    margin_balance: Annotated[Money, Meta(description="Wallet balance and unrealized PnL.")]
    initial_margin: Annotated[
        Money, Meta(description="Need of all positions and pending entries, by their leverage.")
    ]
    maintenance_margin: Money
    available_balance: Annotated[Money, Meta(description="For new positions.")]
    margin_ratio: Annotated[
        Money | None,
        Meta(description="Maintenance margin over margin balance of the cross positions."),
    ]


class FundingPaymentResponse(Response, frozen=True):
    """A settlement of funding on a position."""

    id: int
    symbol: str
    rate: Annotated[
        Money,
        Meta(description="As a fraction of the notional: what a long pays and a short receives."),
    ]
    mark_price: Money
    mark_source: Annotated[
        Literal["row", "mark", "last"],
        Meta(
            description="`row`: the settlement's own mark price; `mark`: an imported mark price;"
            " `last`: the price."
        ),
    ]
    quantity: Annotated[Money, Meta(description="Held then; negative for a short.")]
    notional: Money
    amount: Annotated[Money, Meta(description="Received; negative if it was paid.")]
    simulated_at: Time

    @classmethod
    def of(cls, payment: FundingPayment, /, **fields: Any) -> Self:
        """Return the answer that shows a payment."""
        return super().of(payment, simulated_at=format_time(payment.time), **fields)


class FundingPaymentsResponse(msgspec.Struct, frozen=True):
    payments: list[FundingPaymentResponse]
    count: int
    total: Annotated[int, Meta(description="The number of all payments.")]
    total_amount: Annotated[Money, Meta(description="Received less paid, of all payments.")]


class LiquidationResponse(Response, frozen=True):
    """A position that was closed because its margin did not suffice."""

    order_id: Annotated[int, Meta(description="The order by which the session closed it.")]
    symbol: str
    side: Annotated[Side, Meta(description="Of this order: `sell` for a long.")]
    quantity: Money
    mark_price: Money
    price: Money
    loss: Annotated[
        Money, Meta(description="Of the account: negative PnL and fee, less the insurance.")
    ]
    fee: Money
    insurance: Annotated[Money, Meta(description="Debt that the insurance fund took over.")]
    margin_mode: MarginMode
    simulated_at: Time

    @classmethod
    def of(cls, liquidation: Liquidation, /, **fields: Any) -> Self:
        """Return the answer that shows a liquidation."""
        return super().of(liquidation, simulated_at=format_time(liquidation.time), **fields)


class LiquidationsResponse(msgspec.Struct, frozen=True):
    liquidations: list[LiquidationResponse]
    count: int


class LeverageRequest(RequestBody):
    symbol: Symbol
    leverage: Leverage


class MarginModeRequest(RequestBody):
    symbol: Symbol
    margin_mode: MarginMode


class MarginTransferRequest(RequestBody):
    symbol: Symbol
    amount: Annotated[
        SignedNumber,
        Meta(
            description="To the isolated wallet; a negative amount goes back to the cross wallet."
        ),
    ]


class LeverageResponse(msgspec.Struct, frozen=True):
    symbol: str
    leverage: int
    max_notional: Annotated[
        Money | None, Meta(description="Largest notional at the leverage; null without a bound.")
    ]
    liquidation_price: Annotated[Money | None, Meta(description="Null without a position.")]

    @classmethod
    def of(cls, session: Session, symbol: str) -> "LeverageResponse":
        terms = _terms(session, symbol)
        most = terms.tiers.max_notional(terms.leverage)
        price = _liquidation_price(session, symbol)
        return cls(symbol, int(terms.leverage), optional_money(most), optional_money(price))


class MarginModeResponse(msgspec.Struct, frozen=True):
    symbol: str
    margin_mode: MarginMode

    @classmethod
    def of(cls, session: Session, symbol: str) -> "MarginModeResponse":
        return cls(symbol, "isolated" if _terms(session, symbol).is_isolated else "cross")


class MarginTransferResponse(msgspec.Struct, frozen=True):
    symbol: str
    isolated_wallet: Money
    liquidation_price: Annotated[Money | None, Meta(description="Null if there is none above 0.")]

    @classmethod
    def of(cls, session: Session, symbol: str) -> "MarginTransferResponse":
        wallet = _margin_account(session).isolated_wallet(symbol)
        price = _liquidation_price(session, symbol)
        return cls(symbol, money(wallet), optional_money(price))


def _margin_account(session: Session) -> MarginAccount:
    account = session.account
    assert isinstance(account, MarginAccount), "spot sessions refuse the commands of margin"
    return account


def _terms(session: Session, symbol: str) -> MarginTerms:
    return _margin_account(session).terms[symbol]


def _liquidation_price(session: Session, symbol: str) -> Decimal | None:
    for position in session.positions():
        if isinstance(position, MarginPosition) and position.symbol == symbol:
            return position.liquidation_price
    return None
