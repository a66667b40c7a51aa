"""Target of a replay: a session of this process, on the candles of a store."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from candlestep.api.errors import STATUS
from candlestep.api.schemas.account import PortfolioResponse
from candlestep.api.schemas.market import CandleResponse
from candlestep.api.sessions.player import (
    CommandPlayer,
    Reply,
    encode_refusal,
    recorded_config,
    start_digest,
)
from candlestep.api.sessions.recovery import candle_request, recorded_market
from candlestep.data.imports.storing.changes import latest_import
from candlestep.data.journal.candle_fingerprints import Fingerprints, fingerprint
from candlestep.data.journal.records import CommandRecord, Start
from candlestep.data.market.candle_cache import LoadParts
from candlestep.data.market.day_fingerprints import day_fingerprints
from candlestep.data.market.parts import market_of
from candlestep.data.store.database import Store
from candlestep.sandbox import Market, NoPrice, SandboxError, Session

_PAIRS_NAMED = 5


class RecordedMarket(NamedTuple):
    """The market of a recording, and the digests of its candles by day, if they are not too many."""

    market: Market
    days: Fingerprints | None


class LocalTarget:
    """A session of this process, as a replay plays on it."""

    def __init__(self, start: Start, recorded: RecordedMarket) -> None:
        # A recording is played on whatever candles there are, and those that differ are named.
        config = recorded_config(start.config | {"allow_gaps": True}, start.risk_profile)
        self._player = CommandPlayer(Session(config, recorded.market), engine=start.engine)
        self._days = recorded.days

    def candles(self) -> Fingerprints:
        """Return the fingerprints of the candles that the session can read, by month."""
        session = self._player.session
        return fingerprint(session.config, session.market)

    @property
    def session(self) -> Session:
        """The session itself."""
        return self._player.session

    def days(self) -> Fingerprints | None:
        """Return the digests of these candles by day; None if there are too many."""
        return self._days

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

    def candle(self, symbol: str) -> dict[str, Any] | None:
        """Return the latest complete candle of a symbol, as the API shows it; None without one."""
        session = self._player.session
        if symbol not in session.market:
            return None
        candles = list(session.candles(symbol, limit=1))
        if not candles:
            return None
        fields: dict[str, Any] = msgspec.to_builtins(CandleResponse.of(candles[-1]))
        return fields


@contextmanager
def local_session(start: Start, recorded: RecordedMarket) -> Iterator[LocalTarget]:
    """Open a session of this process at its start."""
    yield LocalTarget(start, recorded)


def load_market(store: Store, load_parts: LoadParts, start: Start) -> RecordedMarket:
    """Load the market for a recording: the latest candles, or else those that it was recorded on.

    The candles as of the recorded import are used if they match the recorded fingerprints and the
    latest do not. Blocks. Raises ``NoPrice`` if there are no candles, ``InvalidParameter``, and
    the errors of ``load_parts``.
    """
    config = recorded_config(start.config, start.risk_profile)
    period = config.start_time, config.end_time

    def market_as_of(import_number: int) -> Market | None:
        request = candle_request(start, import_number)
        market = recorded_market(start, market_of(load_parts(request).values()), request)
        return market if market is not None and market.covered(*period) is not None else None

    def is_recorded(market: Market | None) -> bool:
        return market is not None and start.candles == fingerprint(config, market)

    number = latest_import(store)
    market = market_as_of(number)
    recorded = start.import_number
    if not is_recorded(market) and recorded is not None and recorded < number:
        earlier = market_as_of(recorded)
        if is_recorded(earlier):
            market, number = earlier, recorded
    if market is None:
        pairs = candle_request(start, number).symbols
        raise NoPrice(
            f"there are no candles of {', '.join(pairs[:_PAIRS_NAMED])} in the period of the"
            " recording; `candlestep data import FILE` imports candles, `candlestep data sample`"
            " loads the sample market",
            pairs=list(pairs),
        )
    if start.blind is not None:
        return RecordedMarket(market, None)
    return RecordedMarket(market, day_fingerprints(store, candle_request(start, number)))
