"""The answers of a server that only sessions on perpetuals have, as values of the library."""

from decimal import Decimal
from typing import Literal

import msgspec

from candlestep.api.client.times import milliseconds
from candlestep.sandbox import FundingPayment, Liquidation, MarginBalance, MarginPosition
from candlestep.sandbox.exchange.clearing import MarginMode
from candlestep.sandbox.exchange.orders import Side
from candlestep.sandbox.money import subtract


class PaymentAnswer(msgspec.Struct):
    id: int
    symbol: str
    rate: Decimal
    mark_price: Decimal
    mark_source: Literal["row", "mark", "last"]
    quantity: Decimal
    notional: Decimal
    amount: Decimal
    simulated_at: str

    def payment(self) -> FundingPayment:
        """Return the payment."""
        return FundingPayment(
            self.id,
            self.symbol,
            self.rate,
            self.mark_price,
            self.mark_source,
            self.quantity,
            self.notional,
            self.amount,
            milliseconds(self.simulated_at),
        )


class PaymentsAnswer(msgspec.Struct):
    payments: list[PaymentAnswer]
    total: int


class LiquidationAnswer(msgspec.Struct):
    order_id: int
    symbol: str
    side: Side
    quantity: Decimal
    mark_price: Decimal
    price: Decimal
    loss: Decimal
    fee: Decimal
    insurance: Decimal
    margin_mode: MarginMode
    simulated_at: str

    def liquidation(self) -> Liquidation:
        """Return the liquidation."""
        return Liquidation(
            self.order_id,
            self.symbol,
            self.side,
            self.quantity,
            self.mark_price,
            self.price,
            subtract(subtract(self.fee, self.insurance), self.loss),
            self.loss,
            self.fee,
            self.insurance,
            self.margin_mode,
            milliseconds(self.simulated_at),
        )


class LiquidationsAnswer(msgspec.Struct):
    liquidations: list[LiquidationAnswer]


class MarginPositionAnswer(msgspec.Struct):
    symbol: str
    quantity: Decimal
    cost_basis: Decimal
    current_price: Decimal
    market_value: Decimal
    unrealized_pnl: Decimal
    realized_pnl: Decimal
    side: Literal["long", "short"]
    leverage: Decimal
    margin_mode: MarginMode
    mark_price: Decimal
    notional: Decimal
    initial_margin: Decimal
    maintenance_margin: Decimal
    isolated_wallet: Decimal
    margin_ratio: Decimal | None
    liquidation_price: Decimal | None
    bankruptcy_price: Decimal | None
    funding_paid: Decimal
    max_notional: Decimal | None

    def position(self) -> MarginPosition:
        """Return the position."""
        return MarginPosition(*(getattr(self, name) for name in self.__struct_fields__))


class MarginPositionsAnswer(msgspec.Struct):
    positions: list[MarginPositionAnswer]


class MarginAnswer(msgspec.Struct):
    wallet_balance: Decimal
    cross_wallet: Decimal
    unrealized_pnl: Decimal
    margin_balance: Decimal
    initial_margin: Decimal
    maintenance_margin: Decimal
    available_balance: Decimal
    margin_ratio: Decimal | None

    def margin(self) -> MarginBalance:
        """Return the margin of the account."""
        return MarginBalance(*(getattr(self, name) for name in self.__struct_fields__))
