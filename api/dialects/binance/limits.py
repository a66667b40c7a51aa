"""Rate limits, for tests of what a bot does when it asks too often: weights by the wall minute."""

import time
from collections.abc import Mapping
from weakref import WeakKeyDictionary

from candlestep.api.dialects.binance.errors import BinanceError
from candlestep.sandbox import Session

MOST_WEIGHT = 6000
"""The weight of all requests of a minute."""

_MINUTE = 60.0
_TOO_MANY_REQUESTS = 429
_WEIGHTS: Mapping[tuple[str, str], int] = {
    ("GET", "api/v3/account"): 20,
    ("GET", "api/v3/allOrders"): 20,
    ("GET", "api/v3/exchangeInfo"): 20,
    ("GET", "api/v3/klines"): 2,
    ("GET", "api/v3/myTrades"): 20,
    ("GET", "api/v3/openOrders"): 6,
    ("GET", "api/v3/order"): 4,
    ("GET", "api/v3/depth"): 5,
    ("GET", "api/v3/ticker/24hr"): 2,
}
"""The weights of requests that weigh more than 1, as for one symbol."""

_used: WeakKeyDictionary[Session, tuple[int, int]] = WeakKeyDictionary()


def require_rate(session: Session, method: str, path: str) -> int:
    """Count a request, and return the weight of this minute; raises ``BinanceError`` beyond it."""
    minute = int(time.monotonic() // _MINUTE)
    counted, weight = _used.get(session, (minute, 0))
    weight = (weight if counted == minute else 0) + _WEIGHTS.get((method, path), 1)
    if weight > MOST_WEIGHT:
        raise BinanceError(
            -1003,
            f"Too much request weight used; current limit is {MOST_WEIGHT} request weight per 1"
            " MINUTE. Please use WebSocket Streams for live updates to avoid polling the API.",
            _TOO_MANY_REQUESTS,
        )
    _used[session] = minute, weight
    return weight
