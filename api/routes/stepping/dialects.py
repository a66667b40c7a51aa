"""Dialects of a session: keys for the clients of an exchange."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.api.dialects.binance.filters import require_overrides
from candlestep.api.dialects.keys import DialectSettings
from candlestep.api.http.route import Request, Route
from candlestep.api.routes.stepping.session_commands import FIND_ERRORS, find_session
from candlestep.api.schemas.dialects import DialectRequest, DialectResponse
from candlestep.api.services import Services
from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.money import parse_number

_FASTEST, _SLOWEST = 100_000, 0.01
_PREFIX = r"^(/[A-Za-z0-9._~-]+)*/?$"


class AddressHeaders(msgspec.Struct):
    """The headers that say how the client has reached the server."""

    host: Annotated[str, Meta(description="Where the answer says that the server is.")] | None = (
        msgspec.field(name="Host", default=None)
    )
    scheme: Annotated[str, Meta(description="`https`, from a proxy that is trusted.")] | None = (
        msgspec.field(name="X-Forwarded-Proto", default=None)
    )
    prefix: (
        Annotated[
            str,
            Meta(
                pattern=_PREFIX,
                description="The path under which a proxy that is trusted has the server.",
            ),
        ]
        | None
    ) = msgspec.field(name="X-Forwarded-Prefix", default=None)

    @property
    def url(self) -> str:
        """The address of the server, as the client has reached it."""
        scheme = "https" if self.scheme == "https" else "http"
        return f"{scheme}://{self.host or 'localhost'}{(self.prefix or '').rstrip('/')}"


async def open_dialect(services: Services, request: Request) -> DialectResponse:
    """Make a key and a secret with which clients of an exchange trade in a session.

    Each call makes another pair, and the earlier ones stay valid; the settings are those of the
    latest. They hold for this session alone, until it is gone or `candlestep keys rotate-secret`;
    those made with a key of the session, until that is revoked.
    """
    body: DialectRequest = request.body
    hosted = await find_session(services, request)
    if hosted.session.config.market_type != "spot":
        raise InvalidParameter(
            "dialect", "binance is of spot sessions; create one without market_type perp"
        )
    overrides = {symbol: _texts(filters) for symbol, filters in body.symbols.items()}
    require_overrides(hosted.session, overrides)
    speed = float(parse_number("speed", body.speed))
    if not _SLOWEST <= speed <= _FASTEST:
        raise InvalidParameter("speed", f"must be from {_SLOWEST} to {_FASTEST}")
    settings = DialectSettings(body.clock, speed, body.strict_time, body.rate_limits, overrides)
    session_id = request.path["session_id"]
    opener = None if request.session_id is None else request.api_key_id
    pair = await services.dialects.open(
        request.account_id, session_id, body.dialect, settings, opener
    )
    address: AddressHeaders = request.headers
    base_url = f"{address.url}/{body.dialect}/{session_id}"
    return DialectResponse(base_url, pair.api_key, pair.api_secret, f"{base_url}/control")


def _texts(filters: Any) -> dict[str, str]:
    return {
        name: str(value)
        for name, value in msgspec.structs.asdict(filters).items()
        if value is not None
    }


ROUTES = [
    Route(
        "POST", "/api/v1/backtest/{session_id}/dialect", open_dialect,
        "Let clients of an exchange trade in a session", body=DialectRequest, status=201,
        errors=FIND_ERRORS, headers=AddressHeaders, for_session_key=True,
    ),
]  # fmt: skip
