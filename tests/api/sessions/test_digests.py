"""The digests of replies as version 0.1.0 made them, before warnings joined the answers over HTTP.

Every journal and recording depends on them: if one changes, a change has altered the digested form
of a reply. New fields belong to the HTTP answer, after it is digested.
"""

from collections.abc import Callable
from typing import Any

from candlestep.api.schemas.decoding import decode_body
from candlestep.api.schemas.orders import OrderRequest
from candlestep.api.schemas.sessions import CreateRequest
from candlestep.api.sessions.idempotency import IdempotencyKey
from candlestep.api.sessions.player import CommandPlayer
from candlestep.sandbox import Candles, Market, Session, SessionConfig
from candlestep.sandbox.clock import HOUR


def player() -> CommandPlayer:
    """Return a session over hours with a hole in them, which goes on after the last one."""
    candles = Candles(
        symbol="BTCUSDT", interval="1h", open_time=[hour * HOUR for hour in (0, 1, 2, 3, 8, 9)],
        open=[100, 101, 102, 103, 104, 105], high=[102, 103, 104, 105, 106, 107],
        low=[99, 100, 101, 102, 103, 104], close=[101, 102, 103, 104, 105, 106], volume=[10] * 6,
    )  # fmt: skip
    config = SessionConfig(
        start_time=0, end_time=12 * HOUR, starting_balance="1000", candle_interval="1h",
        allow_gaps=True,
    )  # fmt: skip
    return CommandPlayer(Session(config, Market([candles])))


def order(**fields: Any) -> OrderRequest:
    return OrderRequest(**{"symbol": "BTCUSDT", "quantity": "5"} | fields)


def test_the_digest_of_a_request_to_create_is_frozen() -> None:
    """Stores have it for the key that was sent; a new field must be left out of it when unset."""
    body = (
        b'{"start_time":"2025-01-15T00:00:00Z","end_time":"2025-01-16T00:00:00Z",'
        b'"pairs":["BTCUSDT"],"starting_balance":"5000"}'
    )
    request = decode_body(CreateRequest, body)
    assert IdempotencyKey.of("k", "create", request).digest == "fa3ee16068d9e9a1"


def test_the_digests_of_start_step_order_and_cancel_are_frozen() -> None:
    played = player()
    assert played.digest == b"3ee4e8c2c986962e", "start"
    commands: list[tuple[Callable[[], object], bytes]] = [
        (lambda: played.step(2), b"c602164e1a9b1905"),
        (lambda: played.order(order(side="buy", type="market")), b"cfc45a7b0ccae134"),
        (lambda: played.order(order(side="sell", type="limit", price="200")), b"d6103d1bc3fd0da5"),
        (lambda: played.cancel_order(2), b"639eb7b6c87ce0ae"),
        (lambda: played.step(3), b"1ed379432a71c73d"),
        (lambda: played.cancel(), b"3847dd4036d98511"),
    ]
    for number, (play, digest) in enumerate(commands):
        play()
        assert played.digest == digest, number
    assert played.session.warnings, "it has something to say, and says it elsewhere"
    assert played.session.orders[0].fill is not None
    assert played.session.orders[0].fill.slippage > 0.02
