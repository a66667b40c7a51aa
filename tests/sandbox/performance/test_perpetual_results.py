"""Results of sessions on perpetuals: what adds up, shorts as trades, and an account in ruin."""

from decimal import Decimal
from math import isfinite

import msgspec
import pytest

from candlestep.sandbox import FundingRates, Results, Session, closed_trades
from candlestep.sandbox.clock import DAY, MINUTE
from tests.support.perpetual_markets import BTC, ETH, bars, perp_session


def test_pairs_add_up_to_the_total_with_funding_and_fees() -> None:
    funding = [
        FundingRates(BTC, [2 * MINUTE], [0.001], mark=[60_000.0]),
        FundingRates(ETH, [2 * MINUTE, 3 * MINUTE], [-0.002, 0.001], interval=[DAY, DAY]),
    ]
    session = perp_session(
        bars(BTC, 60_000, 60_000, 61_000, 61_500, 61_000),
        bars(ETH, 3000, 3000, 2900, 2950, 2950),
        funding=funding,
    )
    session.place_order(symbol=BTC, side="buy", quantity="0.1")
    session.place_order(symbol=ETH, side="buy", quantity=1)
    session.step(2)
    session.place_order(symbol=ETH, side="sell", quantity=2)
    results = ended(session)
    assert results.total_funding == sum(payment.amount for payment in session.funding_payments)
    assert [payment.amount for payment in session.funding_payments] == [
        Decimal(-6),
        Decimal(6),
        Decimal("-2.9"),
    ]
    assert sum(pair.net_pnl for pair in results.by_pair) == results.total_pnl
    assert (results.funding_expected, results.funding_applied) == (3, 3)
    assert (results.mark_source, results.mark_holes, results.liquidations) == ("last", 0, 0)
    # 6100 + 2900 after the flip, over 10,000 + 100 - 100 less fees of 7.4 and funding of 2.9.
    assert results.max_leverage_used == Decimal("0.90092796")


def test_trades_of_a_long_and_of_the_short_it_flips_to() -> None:
    session = perp_session(bars(BTC, 100, 100, 110, 90, 90, 90), fee_rate="0.01")
    session.place_order(symbol=BTC, side="buy", quantity=1)
    session.step(2)
    session.place_order(symbol=BTC, side="sell", quantity=3)
    session.step(1)
    session.place_order(symbol=BTC, side="buy", quantity=2)
    long, short = closed_trades(session.fills)
    assert (long.side, long.quantity, long.entry_price) == ("buy", 1, 100)
    assert (long.pnl, long.fee) == (Decimal(10) - Decimal("2.1"), Decimal("2.1"))
    assert (short.side, short.quantity, short.entry_price, short.exit_price) == ("sell", 2, 110, 90)
    # 40 less 2.2 at entry and 1.8 at exit, of 222.2.
    assert (short.pnl, short.fee) == (36, 4)
    assert long.pnl + short.pnl == session.portfolio().realized_pnl
    assert short.return_pct == Decimal("16.20162016")


def test_an_account_in_ruin_has_figures_and_no_nan() -> None:
    session = perp_session(
        bars(BTC, *[100.0] * 20, (100, 100, 1, 1), *[1.0] * 30, interval="1d"),
        candle_interval="1d",
        starting_balance=10,
        fee_rate=0,
        start_time=0,
    )
    session.place_order(symbol=BTC, side="buy", quantity=1)
    results = ended(session)
    assert results.final_equity == 0
    assert (results.liquidations, results.insurance) == (1, 0)
    metrics = results.metrics
    assert (metrics.total_return, metrics.cagr, metrics.max_drawdown_pct) == (-1, -1, 100)
    assert metrics.returns_count == 21
    for name, value in msgspec.structs.asdict(metrics).items():
        assert not isinstance(value, float) or isfinite(value), name
    assert session.record().monthly_returns()[-1].return_pct is None


@pytest.mark.parametrize("marks", ["none", "coarse", "some", "all"])
def test_what_valued_positions_is_said(marks: str) -> None:
    prices = bars(BTC, 100, 100, 100, 100)
    lines = {
        "none": [],
        "coarse": [bars(BTC, 101, interval="5m")],
        "some": [bars(BTC, 100, 101)],
        "all": [bars(BTC, 100, 101, 101, 101)],
    }
    session = perp_session(prices, marks=lines[marks])
    session.place_order(symbol=BTC, side="sell", quantity=1)
    results = ended(session)
    expected = {
        "none": ("last", 0, []),
        "coarse": ("last", 3, ["MARKS_UNUSED"]),
        "some": ("mixed", 2, []),
        "all": ("mark", 0, []),
    }
    codes = [warning.code for warning in results.warnings]
    assert (results.mark_source, results.mark_holes, codes) == expected[marks]


def ended(session: Session) -> Results:
    session.step(session.total_steps)
    return session.results()
