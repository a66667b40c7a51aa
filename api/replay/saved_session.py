"""Sessions of this process as files that ``candlestep replay`` runs again."""

from collections.abc import Sequence
from pathlib import Path

from candlestep.api.replay.local_target import LocalTarget, RecordedMarket
from candlestep.api.replay.replay import re_record
from candlestep.data.journal.recording import write_recording
from candlestep.data.journal.session_commands import session_commands
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import InvalidState, Market, Session


def save_session(session: Session, path: str | Path, *, exchange: str = DEFAULT_EXCHANGE) -> None:
    """Write the recording of a session to a file, such as an episode of an agent.

    The commands are played again in a new session, whose answers are recorded and whose fills must
    be the same; ``exchange`` is that under which the candles are imported. Takes as long as the
    commands. Raises ``InvalidState`` for a session whose commands its orders do not tell, and
    ``UnreadableFile``.
    """
    recording = session_commands(session, exchange=exchange)
    market = _market_of(session.market, recording.start.pairs)
    target = LocalTarget(recording.start, RecordedMarket(market, None))
    lines = re_record(recording, target, lambda done, total: None)
    played = target.session
    if played.fills != session.fills or played.portfolio() != session.portfolio():
        raise InvalidState(
            "the session's orders do not tell the sequence of its commands: orders were placed and"
            " cancelled in the same step; record it over HTTP instead"
        )
    write_recording(Path(path), lines)


def _market_of(market: Market, symbols: Sequence[str]) -> Market:
    """Return the market of some symbols of another, with their mark prices and funding rates."""
    marks, funding = map(market.marks_of, symbols), map(market.funding_of, symbols)
    return Market(
        [market.candles_of(symbol) for symbol in symbols],
        [one for one in marks if one is not None],
        [one for one in funding if one is not None],
    )
