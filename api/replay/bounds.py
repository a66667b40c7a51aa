"""The bounds of a server, which hold for a recording as for a session that is created."""

from candlestep.api.sessions.creation import require_pair_count, require_span
from candlestep.api.sessions.player import recorded_config
from candlestep.api.settings import Settings
from candlestep.data.journal.records import Start


def require_bounds(start: Start, bounds: Settings) -> None:
    """Raise ``InvalidParameter`` for a recording of more time or more pairs than are allowed."""
    config = recorded_config(start.config, start.risk_profile)
    require_span(bounds, config.start_time, config.end_time)
    require_pair_count(bounds.max_pairs, len(start.pairs))


def require_sequence_bounds(symbols: int, period: tuple[int, int], bounds: Settings) -> None:
    """Raise ``InvalidParameter`` for a sequence of orders over more time or pairs than allowed."""
    require_span(bounds, *period)
    require_pair_count(bounds.max_pairs, symbols)
