"""The candles that a session rests on, by the catalogue: whether they suffice, and what is missing."""

from collections.abc import Mapping, Sequence

import msgspec

from candlestep.api.sessions.blind import candle_request, hidden_of, hidden_spans
from candlestep.data.market.candle_cache import LOOK_BACK, month_start
from candlestep.data.market.catalogue import Catalogue
from candlestep.data.records.sessions import SessionRecord
from candlestep.sandbox import format_time
from candlestep.sandbox.clock import Clock
from candlestep.sandbox.market.coverage import (
    Coverage,
    SessionWarning,
    coverage_of,
    require_within,
)
from candlestep.sandbox.market.spans import Span


def session_coverage(catalogue: Catalogue, record: SessionRecord) -> Coverage:
    """Return the coverage of each of a session's pairs, by the candles as of its import. Blocks.

    Its warnings begin with one about a look-back that was shortened.
    """
    coverage = coverage_of(_clock(record), _covered(catalogue, record))
    return coverage._replace(warnings=(*_look_back_warning(record), *coverage.warnings))


def _look_back_warning(record: SessionRecord) -> list[SessionWarning]:
    if record.look_back is None or record.look_back >= LOOK_BACK:
        return []
    usual, first = record.start_time - LOOK_BACK, record.start_time - record.look_back
    if record.blind is None:
        first = month_start(first)
    return [
        SessionWarning(
            "SHORT_HISTORY",
            None,
            usual,
            first,
            f"candles before {format_time(first)} are left out, because those of"
            f" {len(record.pairs)} pairs would not fit the server's memory budget: slippage and"
            " market/candles know none of them; use fewer pairs, or a larger --memory-budget",
        )
    ]


def require_candles_of(catalogue: Catalogue, record: SessionRecord) -> None:
    """Raise ``NoPrice`` unless a session that does not allow gaps lies within its candles. Blocks."""
    if not record.allows_gaps:
        require_range(_clock(record), _covered(catalogue, record, is_drawn=False))


def require_range(clock: Clock, covered: Mapping[str, Sequence[Span]]) -> None:
    """Raise ``NoPrice`` unless the first and the last step lie within the candles of all pairs.

    Pairs without candles do not count; if none has any, nothing is raised.
    """
    known = {pair: spans for pair, spans in covered.items() if spans}
    if known:
        first = min(spans[0][0] for spans in known.values())
        last = max(spans[-1][1] for spans in known.values())
        require_within(clock, (first, last), list(known))


def _covered(
    catalogue: Catalogue, record: SessionRecord, *, is_drawn: bool = True
) -> dict[str, Sequence[Span]]:
    """Return the spans that each pair covers, as the session shows it.

    Those of the days that it shows, or, unless ``is_drawn``, of those from which they are drawn.
    """
    look_back = LOOK_BACK if record.look_back is None else record.look_back
    request = candle_request(record, record.import_number or 0, look_back)
    covered = catalogue.covered(request.exchange, request.symbols, record.import_number)
    hidden = hidden_of(record.blind)
    if hidden is None:
        return covered
    if not is_drawn and hidden.variant == "bootstrap":
        hidden = msgspec.structs.replace(hidden, variant="none")
    return hidden_spans(hidden, hidden.disguise(record.pairs, record.start_time), request, covered)


def _clock(record: SessionRecord) -> Clock:
    return Clock(record.start_time, record.interval, record.total_steps)
