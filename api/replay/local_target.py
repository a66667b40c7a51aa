"""Target of a replay: a session of this process, on the candles of a store."""

from typing import Any

import msgspec

from candlestep.api.errors import STATUS
from candlestep.api.schemas.account import PortfolioResponse
from candlestep.api.sessions.player import (
    CommandPlayer,
    Reply,
    encode_refusal,
    recorded_config,
    start_digest,
)
from candlestep.data.imports.importer import latest_import
from candlestep.data.journal.candle_fingerprints import Fingerprints, fingerprint
from candlestep.data.journal.records import CommandRecord, Start
from candlestep.data.market.candle_cache import LOOK_BACK, CandleCache, CandleRequest
from candlestep.data.store.database import Store
from candlestep.data.symbols import normalise_exchange, normalise_symbol
from candlestep.sandbox import Market, NoPrice, SandboxError, Session

_CACHE_BYTES = 4 << 30
_PAIRS_NAMED = 5


class LocalTarget:
    """A session of this process, as a replay plays on it."""

    def __init__(self, start: Start, market: Market) -> None:
        config = recorded_config(start.config, start.risk_profile)
        self._player = CommandPlayer(Session(config, market))

    def candles(self) -> Fingerprints:
        """Return the fingerprints of the candles that the session can read."""
        session = self._player.session
        return fingerprint(session.config, session.market)

    def start_digest(self) -> bytes:
        """Return the digest of the reply to the start."""
        return start_digest(self._player.session)

    def play(self, command: CommandRecord) -> Reply:
        """Play one command, once; a refusal is a reply."""
        try:
            return self._player.play(command)
        except SandboxError as error:
            return Reply(encode_refusal(error), STATUS.get(error.code, 500))

    def account(self) -> dict[str, Any]:
        """Return the portfolio, as the API shows it."""
        portfolio = PortfolioResponse.of(self._player.session.portfolio())
        fields: dict[str, Any] = msgspec.to_builtins(portfolio)
        return fields


def load_market(store: Store, start: Start) -> Market:
    """Load the market for a recording: the latest candles, or else those that it was recorded on.

    The candles as of the recorded import are used if they match the recorded fingerprints and the
    latest do not. Blocks. Raises ``NoPrice`` if there are no candles, and ``InvalidParameter``.
    """
    config = recorded_config(start.config, start.risk_profile)
    exchange = normalise_exchange(start.exchange)
    pairs = [normalise_symbol(pair) for pair in start.pairs]
    look_back = LOOK_BACK if start.look_back is None else start.look_back
    cache = CandleCache(store, _CACHE_BYTES)
    period = config.start_time, config.end_time

    def market_as_of(import_number: int) -> Market | None:
        request = CandleRequest(exchange, pairs, import_number, *period, look_back)
        candles = cache.candles(request).values()
        if any(series.has_any(*period) for series in candles):
            return Market(candles)
        return None

    def is_recorded(market: Market | None) -> bool:
        return market is not None and start.candles == fingerprint(config, market)

    latest = latest_import(store)
    market = market_as_of(latest)
    recorded = start.import_number
    if not is_recorded(market) and recorded is not None and recorded < latest:
        earlier = market_as_of(recorded)
        market = earlier if is_recorded(earlier) else market
    if market is None:
        raise NoPrice(
            f"there are no candles of {', '.join(pairs[:_PAIRS_NAMED])} in the period of the"
            " recording; `candlestep data import FILE` imports candles, `candlestep data sample`"
            " loads the sample market",
            pairs=pairs,
        )
    return market
