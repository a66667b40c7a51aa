"""The report of an evaluation: what may be claimed, in sentences, and the page that shows it."""

from collections.abc import Callable
from typing import NamedTuple

from candlestep.api.evaluation.evaluate import Evaluation
from candlestep.api.evaluation.plan import Kind
from candlestep.api.evaluation.statistics import Findings, KindSummary, Spread
from candlestep.api.views.html import render, stylesheet

_NAMES: dict[Kind, str] = {
    "open": "open",
    "blind": "blind",
    "mirror": "mirrored",
    "bootstrap": "bootstrapped",
}
_LEAST = 0.05
"""Percentage points below which a difference is that of rounded prices."""
_WIDTH, _LEFT, _ROW = 720, 120, 44


class Dot(NamedTuple):
    """A session in the picture: its place, and what it was."""

    x: float
    title: str


class PictureRow(NamedTuple):
    """The sessions of one kind in the picture."""

    name: str
    y: int
    dots: list[Dot]
    mean: float
    interval: tuple[float, float] | None


class Picture(NamedTuple):
    """The returns of all sessions, a row for each kind."""

    width: int
    height: int
    zero: float
    ticks: list[tuple[float, str]]
    rows: list[PictureRow]


def claims(evaluation: Evaluation) -> list[str]:
    """Return the claims that the evaluation allows, and their limits, in sentences."""
    found = evaluation.findings
    sentences = [_of_kind(summary) for summary in found.kinds]
    if found.decay is not None:
        nothing = _without_decay(found)
        sentences.append(nothing or _of_decay(found.decay))
        if nothing is None and found.sharpe_decay is not None:
            sentences += _of_sharpe(found.sharpe_decay)
    if found.agreement is not None:
        sentences.append(
            "Between a market and its mirror the agent held the same in"
            f" {found.agreement.mean:.0f} % of the time in which it held anything in either"
            f"{_shares(found.agreement)}. An agent that reads the market turns around:"
            " the share is low. One that remembers, or always does the same, stays: it is high."
        )
    sentences.append(
        "Refused counts requests and calls of tools that the server refused to the agent, whatever"
        " the reason; rejected counts orders that ended so, by a limit of risk or for want of money"
        " when their price was reached. An order that a limit rejects at once is in both."
    )
    failed = sum(summary.failed for summary in found.kinds)
    if failed:
        sentences.append(f"The agent failed in {failed} sessions, which count as far as they went.")
    if not evaluation.has_keys:
        sentences.append(
            "The server had no keys: the agent could have read what was hidden from it. Make a key"
            " with `candlestep keys create NAME`, and evaluate again."
        )
    sentences.append(
        "Intervals are at 95 %, by Student's distribution, each session of the table counted once,"
        " whatever the number of its seeds. Sessions of the same weeks, and"
        " of coins that move together, are not independent: the truth is less sure than that."
    )
    return sentences


def page(evaluation: Evaluation) -> str:
    """Return the report as one HTML file that loads nothing."""
    found = evaluation.findings
    return render(
        "evaluation.html",
        agent=evaluation.agent,
        css=stylesheet(),
        claims=claims(evaluation),
        picture=_picture(evaluation),
        header=TABLE_HEADER,
        rows=table_rows(found),
        outcomes=[
            (
                one.name,
                _NAMES[one.kind],
                "" if one.seed is None else str(one.seed),
                f"{one.return_pct:+.2f}",
                _number(one.sharpe),
                f"{one.max_drawdown_pct:.2f}",
                str(one.trades),
                one.session_id,
                one.error or "",
            )
            for one in evaluation.outcomes
        ],
    )


TABLE_HEADER = (
    "kind", "sessions", "return, %", "95 % interval", "least", "most", "Sharpe", "its interval",
    "drawdown, %", "trades", "fees", "slippage", "refused", "rejected", "failed",
)  # fmt: skip
"""The columns of ``table_rows``."""


def table_rows(found: Findings) -> list[tuple[str, ...]]:
    """Return a row of texts for each kind of session."""
    return [
        (
            _NAMES[one.kind],
            str(one.sessions),
            f"{one.returns.mean:+.2f}",
            _bounds_of(one.returns),
            f"{one.returns.low:+.2f}",
            f"{one.returns.high:+.2f}",
            _number(None if one.sharpe is None else one.sharpe.mean),
            _bounds_of(one.sharpe),
            f"{one.drawdown_pct:.2f}",
            f"{one.trades:.1f}",
            f"{one.fees:.2f}",
            f"{one.slippage:.2f}",
            "–" if one.refused is None else str(one.refused),
            str(one.rejected),
            str(one.failed),
        )
        for one in found.kinds
    ]


def _of_kind(summary: KindSummary) -> str:
    name = _NAMES[summary.kind].capitalize()
    plural = "s" if summary.sessions > 1 else ""
    return (
        f"{name}: {summary.sessions} session{plural}, mean return {summary.returns.mean:+.2f} %"
        f"{_interval(summary.returns, ' %', 2)}."
    )


def _without_decay(found: Findings) -> str | None:
    """Return the reason not to compare open and blind sessions; None if there is none."""
    compared = [summary for summary in found.kinds if summary.kind in ("open", "blind")]
    for summary in compared:
        if summary.failed == summary.sessions:
            return (
                f"The agent failed in every {_NAMES[summary.kind]} session: nothing can be claimed"
                " about what it does without names and dates."
            )
    if not any(summary.trades for summary in compared):
        return (
            "The agent never traded, neither open nor blind: nothing can be claimed about what it"
            " does without names and dates."
        )
    return None


def _of_decay(decay: Spread) -> str:
    if abs(decay.mean) < _LEAST:
        return (
            "Blind, the agent did as it did open, but for the rounding of prices: it does not live"
            " on names and dates."
        )
    direction = "less" if decay.mean < 0 else "more"
    says = (
        "more than chance explains" if decay.excludes_zero else "which chance may explain: no claim"
    )
    return (
        f"Blind, a session returned {abs(decay.mean):.2f} percentage points {direction} than open"
        f"{_interval(decay, '', 2)}, {says}."
    )


def _of_sharpe(decay: Spread) -> list[str]:
    if abs(decay.mean) < _LEAST:
        return []
    direction = "lower" if decay.mean < 0 else "higher"
    interval = _interval(decay, "", 2)
    return [f"Its Sharpe ratio was {abs(decay.mean):.2f} {direction} blind than open{interval}."]


def _interval(spread: Spread, unit: str, places: int) -> str:
    if spread.interval is None:
        return " (one session: no interval)"
    return f" ({_bounds(spread.interval, places)}{unit})"


def _shares(spread: Spread) -> str:
    if spread.interval is None or not spread.deviation:
        return ""
    low, high = (min(max(bound, 0.0), 100.0) for bound in spread.interval)
    return f" ({low:.0f} to {high:.0f} %)"


def _bounds_of(spread: Spread | None) -> str:
    if spread is None or spread.interval is None:
        return "–"
    return _bounds(spread.interval, 2)


def _bounds(interval: tuple[float, float], places: int) -> str:
    return " to ".join(f"{bound:+.{places}f}" for bound in interval)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _picture(evaluation: Evaluation) -> Picture:
    kinds = evaluation.findings.kinds
    returns = [one.return_pct for one in evaluation.outcomes]
    low, high = min(0.0, *returns), max(0.0, *returns)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return round(_LEFT + (value - low) / span * (_WIDTH - _LEFT - 30), 1)

    rows = [
        PictureRow(
            _NAMES[one.kind],
            _ROW * (place + 1),
            [
                Dot(x(outcome.return_pct), f"{outcome.name}: {outcome.return_pct:+.2f} %")
                for outcome in evaluation.outcomes
                if outcome.kind == one.kind
            ],
            x(one.returns.mean),
            _clipped(one.returns, low, high, x),
        )
        for place, one in enumerate(kinds)
    ]
    ticks = [
        (x(value), f"{value:+.1f} %" if value else "0 %") for value in sorted({low, 0.0, high})
    ]
    return Picture(_WIDTH, _ROW * (len(kinds) + 2), x(0.0), ticks, rows)


def _clipped(
    spread: Spread, low: float, high: float, x: Callable[[float], float]
) -> tuple[float, float] | None:
    """Return the place of the interval of a mean in the picture, as far as it fits."""
    if spread.interval is None:
        return None
    first, last = (x(min(max(bound, low), high)) for bound in spread.interval)
    return first, last
