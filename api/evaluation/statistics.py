"""The findings of an evaluation: means of its outcomes, their differences and their intervals."""

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from math import sqrt
from statistics import mean, median, stdev

import msgspec

from candlestep.api.evaluation.judge import Outcome, Stance
from candlestep.api.evaluation.plan import KINDS, Kind

_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""The 97.5 % quantiles of Student's distribution for 1 to 30 degrees of freedom."""
_NORMAL = 1.96


class Spread(msgspec.Struct, frozen=True):
    """Numbers in brief; the interval is that of their mean, at 95 %.

    Of several seeds, it is that of the mean of each session of the table.
    """

    count: int
    mean: float
    median: float
    low: float
    high: float
    deviation: float | None
    """The standard deviation; None of fewer than two numbers, as the interval is."""
    interval: tuple[float, float] | None

    @property
    def excludes_zero(self) -> bool:
        """True if the interval lies on one side of zero."""
        return self.interval is not None and self.interval[0] * self.interval[1] > 0


class KindSummary(msgspec.Struct, frozen=True):
    """The sessions of one kind."""

    kind: Kind
    sessions: int
    returns: Spread
    """In percent."""
    sharpe: Spread | None
    drawdown_pct: float
    """The mean of the largest drawdowns."""
    trades: float
    fees: float
    slippage: float
    """Means a session, the costs in quote currency."""
    refused: int | None
    """Requests that were refused to the agent; None where it had no key of its own."""
    rejected: int
    """Orders that were rejected."""
    failed: int


class Findings(msgspec.Struct, frozen=True):
    """All that an evaluation says."""

    kinds: list[KindSummary]
    decay: Spread | None
    """The return blind less the return open, in percent, of each session of the table."""
    sharpe_decay: Spread | None
    agreement: Spread | None
    """The share, in percent, of the time in which an agent held something in a blind market or in
    its mirror that it held the same in both."""


def spread(numbers: Sequence[float]) -> Spread:
    """Return numbers, at least one, in brief."""
    count, average = len(numbers), mean(numbers)
    deviation = stdev(numbers) if count > 1 else None
    interval = None
    if deviation is not None:
        quantile = _STUDENT[count - 2] if count - 2 < len(_STUDENT) else _NORMAL
        half = quantile * deviation / sqrt(count)
        interval = (average - half, average + half)
    return Spread(count, average, median(numbers), min(numbers), max(numbers), deviation, interval)


def findings(outcomes: Sequence[Outcome]) -> Findings:
    """Return the findings of these outcomes."""
    by_kind = {kind: [one for one in outcomes if one.kind == kind] for kind in KINDS}
    both = [*by_kind["open"], *by_kind["blind"]]
    return Findings(
        [_summary(kind, of_kind) for kind, of_kind in by_kind.items() if of_kind],
        _difference([(one, one.return_pct) for one in both]),
        _difference([(one, one.sharpe) for one in both if one.sharpe is not None]),
        _agreement(by_kind["blind"], by_kind["mirror"]),
    )


def _by_session(values: Sequence[tuple[Outcome, float]]) -> Spread:
    """Return the values of one kind in brief, with the interval of the means of each session.

    Two seeds of a session often give the same return: they are not two observations.
    """
    by_name: dict[str, list[float]] = {}
    for one, value in values:
        by_name.setdefault(one.name, []).append(value)
    of_sessions = spread([mean(of_name) for of_name in by_name.values()])
    return msgspec.structs.replace(
        spread([value for _, value in values]), interval=of_sessions.interval
    )


def _summary(kind: Kind, outcomes: Sequence[Outcome]) -> KindSummary:
    sharpes = [(one, one.sharpe) for one in outcomes if one.sharpe is not None]
    return KindSummary(
        kind,
        len(outcomes),
        _by_session([(one, one.return_pct) for one in outcomes]),
        _by_session(sharpes) if sharpes else None,
        mean(one.max_drawdown_pct for one in outcomes),
        mean(one.trades for one in outcomes),
        mean(one.fees for one in outcomes),
        mean(one.slippage for one in outcomes),
        _total([one.refused for one in outcomes]),
        sum(one.rejected for one in outcomes),
        sum(one.error is not None for one in outcomes),
    )


def _total(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _difference(values: Sequence[tuple[Outcome, float]]) -> Spread | None:
    """Return the mean blind less the mean open, of each session of the table that has both."""
    of: dict[tuple[str, Kind], list[float]] = {}
    for one, value in values:
        of.setdefault((one.name, one.kind), []).append(value)
    differences = [
        mean(of[name, "blind"]) - mean(opened)
        for (name, kind), opened in of.items()
        if kind == "open" and (name, "blind") in of
    ]
    return spread(differences) if differences else None


def _agreement(blind: Iterable[Outcome], mirrored: Iterable[Outcome]) -> Spread | None:
    """Return the agreement of stances between markets and their mirrors, of one seed each."""
    mirrors = {(one.name, one.seed): one for one in mirrored}
    shares = []
    for one in blind:
        other = mirrors.get((one.name, one.seed))
        share = None if other is None else agreement(one, other)
        if share is not None:
            shares.append(100 * share)
    return spread(shares) if shares else None


def agreement(one: Outcome, other: Outcome) -> float | None:
    """Return the share of the time in which either held a symbol that both held it alike.

    None if neither ever held anything.
    """
    either = both = 0
    for symbol in sorted({stance.symbol for stance in (*one.stances, *other.stances)}):
        left, right = (_sides(outcome, symbol) for outcome in (one, other))
        bounds = sorted({time for time, _ in (*left, *right)} | {one.end})
        for start, stop in pairwise(bounds):
            sides = (_side_at(left, start), _side_at(right, start))
            if any(sides):
                either += stop - start
                both += (stop - start) * (sides[0] == sides[1])
    return both / either if either else None


def _sides(outcome: Outcome, symbol: str) -> list[tuple[int, int]]:
    """Return the times at which the side of a symbol changed, and the sides, from the start on."""
    changes: list[Stance] = [one for one in outcome.stances if one.symbol == symbol]
    sides = [(outcome.start, 0)]
    for time, together in groupby(changes, key=lambda change: change.time):
        sides.append((time, list(together)[-1].side))
    return sides


def _side_at(sides: Sequence[tuple[int, int]], time: int) -> int:
    return [side for start, side in sides if start <= time][-1]
