"""Findings of an evaluation, with numbers worked by hand."""

from typing import Any

import pytest

from candlestep.api.evaluation.evaluate import Evaluation
from candlestep.api.evaluation.judge import Outcome, Stance, stances
from candlestep.api.evaluation.plan import Kind
from candlestep.api.evaluation.report import claims, page
from candlestep.api.evaluation.statistics import agreement, findings, spread


def outcome(kind: Kind, return_pct: float = 0, **fields: Any) -> Outcome:
    known: dict[str, Any] = {
        "name": "week", "seed": None if kind == "open" else 1, "key": "", "session_id": "bt_1",
        "error": None, "start": 0, "end": 100, "sharpe": return_pct / 2, "max_drawdown_pct": 1,
        "trades": 2, "fees": 3.0, "slippage": 4.0, "refused": 0, "stances": [],
    }  # fmt: skip
    return Outcome(**(known | fields), kind=kind, return_pct=return_pct)


def test_the_interval_of_a_mean_is_that_of_student() -> None:
    """Of 1, 2 and 3: deviation 1, standard error 1/√3 = 0.5774, times 4.303 of two degrees."""
    found = spread([1.0, 2.0, 3.0])
    assert (found.count, found.mean, found.median, found.low, found.high) == (3, 2, 2, 1, 3)
    assert found.deviation == 1
    assert found.interval == pytest.approx((2 - 2.4843, 2 + 2.4843), abs=1e-4)
    assert not found.excludes_zero
    assert spread([1.0, 1.1, 0.9]).excludes_zero
    alone = spread([5.0])
    assert (alone.deviation, alone.interval, alone.excludes_zero) == (None, None, False)


def test_decay_is_the_difference_of_the_means_of_each_session_of_the_table() -> None:
    found = findings(
        [
            outcome("open", 4, name="a"),
            outcome("blind", 1, name="a"),
            outcome("blind", 2, name="a", seed=2),
            outcome("open", 6, name="b"),
            outcome("blind", 3, name="b"),
            outcome("open", 100, name="without a blind one"),
        ]
    )
    assert found.decay is not None
    assert (found.decay.low, found.decay.high) == (-3, -2.5)
    assert found.sharpe_decay is not None
    assert found.sharpe_decay.mean == pytest.approx(-1.375)
    assert [(one.kind, one.sessions) for one in found.kinds] == [("open", 3), ("blind", 3)]
    assert found.agreement is None
    # Two seeds of one session are one observation of the two: means of 1.5 and 3.
    blind = found.kinds[1].returns
    assert (blind.count, blind.interval) == (3, spread([1.5, 3.0]).interval)


def test_agreement_is_the_share_of_the_time_held_in_both() -> None:
    """Long from 10 to 60 in the market, from 40 to 100 in the mirror: 20 of 90 in both."""
    market = outcome("blind", stances=[Stance(10, "A", 1), Stance(60, "A", 0)])
    mirror = outcome("mirror", stances=[Stance(40, "A", 1)])
    assert agreement(market, mirror) == pytest.approx(20 / 90)
    short = outcome("mirror", stances=[Stance(10, "A", -1), Stance(60, "A", 0)])
    assert agreement(market, short) == 0
    assert agreement(market, market) == 1
    assert agreement(outcome("blind"), outcome("mirror")) is None
    found = findings([market, mirror, outcome("mirror", seed=2, stances=[Stance(0, "A", 1)])])
    assert found.agreement is not None
    assert (found.agreement.count, found.agreement.mean) == (1, pytest.approx(100 * 20 / 90))


def test_stances_change_where_a_position_opens_turns_or_closes() -> None:
    def trade(minute: int, side: str, quantity: str) -> dict[str, Any]:
        time = f"1991-01-01T00:{minute:02d}:00Z"
        return {"symbol": "A", "side": side, "quantity": quantity, "simulated_at": time}

    trades = [
        trade(0, "buy", "0.1"), trade(1, "buy", "0.2"), trade(2, "sell", "0.3"),
        trade(3, "sell", "1"), trade(4, "buy", "2"),
    ]  # fmt: skip
    first = 662688000000
    found = [((one.time - first) // 60_000, one.side) for one in stances(trades)]
    assert found == [(0, 1), (2, 0), (3, -1), (4, 1)]


def test_the_report_claims_no_more_than_it_may() -> None:
    def report(
        *returns: tuple[float, float], failed: int = 0, has_keys: bool = True, trades: int = 2
    ) -> str:
        outcomes = []
        for place, (opened, blind) in enumerate(returns):
            error = "<b>" if place < failed else None
            outcomes += [outcome("open", opened, name=str(place), trades=trades)]
            outcomes += [outcome("blind", blind, name=str(place), trades=trades, error=error)]
        evaluation = Evaluation("agent & co", has_keys, outcomes, findings(outcomes))
        html = page(evaluation)
        assert "agent &amp; co" in html
        assert "<b>" not in html
        assert html.count("<circle") == len(outcomes)
        return " ".join(claims(evaluation))

    assert "more than chance explains" in report((5, 1), (6, 2), (7, 2.5))
    assert "chance may explain: no claim" in report((5, 1), (1, 6), (7, 2.5))
    assert "did as it did open" in report((5, 5.01), (6, 6.01))
    assert "one session: no interval" in report((5, 1))
    assert "Its Sharpe ratio was 2.00 lower blind than open" in report((5, 1), (6, 2))
    assert "had no keys" in report((5, 1), has_keys=False)
    some_failed = report((5, 1), (6, 2), (7, 2.5), failed=2)
    assert "failed in 2 sessions" in some_failed
    assert "more than chance explains" in some_failed
    for nothing, reason in (
        (report((5, 0), (6, 0), failed=2), "failed in every blind session: nothing can be claimed"),
        (report((0, 0), (0, 0), trades=0), "never traded, neither open nor blind: nothing can"),
    ):
        assert reason in nothing
        assert "than open" not in nothing
        assert "as it did open" not in nothing
