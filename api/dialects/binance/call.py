"""One request to a session, with what its handler needs, and the texts that all answers share."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal, NamedTuple

import msgspec

from candlestep.api.dialects.binance.errors import BinanceError, invalid_symbol
from candlestep.api.dialects.binance.filters import Rules
from candlestep.api.dialects.binance.parameters import Parameters
from candlestep.api.dialects.binance.trading.lists import Lists
from candlestep.api.dialects.keys import OpenDialect
from candlestep.api.services import Services
from candlestep.api.sessions.commands import Command, SessionRef
from candlestep.api.sessions.hosted_session import HostedSession
from candlestep.api.sessions.player import Reply
from candlestep.sandbox import Instrument, Session

Security = Literal["none", "key", "signed"]


class Call(msgspec.Struct, frozen=True, dict=True):
    """A request that was admitted."""

    services: Services
    dialect: OpenDialect
    hosted: HostedSession
    rules: Rules
    parameters: Parameters
    now: int
    """The virtual time, in milliseconds."""

    @property
    def session(self) -> Session:
        """The session itself, running or ended."""
        return self.hosted.session

    @cached_property
    def lists(self) -> Lists:
        """The pairs of orders of the session."""
        return Lists(self.session)

    @property
    def ref(self) -> SessionRef:
        """The session, to send commands to."""
        return SessionRef(self.dialect.account_id, self.dialect.session_id)

    async def apply(self, command: Command) -> Reply:
        """Change the session; raises the refusal of a command."""
        return await self.services.sessions.apply(self.ref, command)

    def symbol(self, name: str = "symbol") -> str:
        """Return the symbol that the request must name."""
        return self.traded(self.parameters.required(name))

    def traded(self, symbol: str) -> str:
        """Return a symbol that the session trades; raises ``BinanceError`` for any other."""
        if symbol not in self.session.market:
            raise invalid_symbol()
        return symbol

    def optional_symbol(self) -> str | None:
        """Return the symbol, if the request names one."""
        return self.symbol() if "symbol" in self.parameters else None

    def symbols(self) -> list[str]:
        """Return the symbols that the request names, by default all that have a price."""
        named = self.parameters.symbols()
        if named is not None:
            return [self.traded(symbol) for symbol in named]
        return list(self.session.market.prices(self.session.time))

    def is_single(self) -> bool:
        """Return whether the request names one symbol, whose answer is an object, not a list."""
        return "symbol" in self.parameters

    def assets(self, symbol: str) -> tuple[str, str]:
        """Return the base and the quote asset of a symbol."""
        instrument = Instrument(symbol)
        currency = self.session.config.currency
        return instrument.base or symbol.removesuffix(
            currency
        ) or symbol, instrument.quote or currency


Handler = Callable[[Call], Awaitable[Any]]


class Endpoint(NamedTuple):
    """The endpoint of a path: a handler, its security, and the names it reads."""

    handler: Handler
    security: Security = "none"
    names: frozenset[str] = frozenset()


def reads(handler: Handler, security: Security, *names: str) -> Endpoint:
    """Return the endpoint of a handler that reads parameters of these names."""
    return Endpoint(handler, security, frozenset(names))


def number(value: Decimal | None) -> str:
    """Return an amount as Binance writes it, with 8 decimals; 0 for None."""
    return "0.00000000" if value is None else f"{value:.8f}"


def invalid_combination() -> BinanceError:
    """Return the error of parameters that exclude each other."""
    return BinanceError(-1128, "Combination of optional parameters invalid.")
