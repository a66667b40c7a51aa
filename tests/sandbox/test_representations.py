"""What is shown of a session and its parts in a notebook: one line that tells."""

from decimal import Decimal

import pytest

from candlestep.sandbox import Market, RiskProfile, Session, SessionConfig
from candlestep.sandbox.clock import MINUTE
from tests.support.candles import minutes

MARKET = Market([minutes("A", *[10.0 + i % 3 for i in range(120)])])


def test_a_session_shows_where_it_stands() -> None:
    config = SessionConfig(start_time=0, end_time=60 * MINUTE, fee_model="none",
                           slippage={"model": "none"})  # fmt: skip
    session = Session(config, MARKET)
    session.place_order(symbol="A", side="buy", type="market", quantity=10)
    session.place_order(symbol="A", side="buy", type="limit", quantity=1, price=9)
    step = session.step(2)
    assert repr(step) == "Step(2 of 60 at 1970-01-01T00:02:00Z, equity 10010, 0 filled, 0 closed)"
    assert repr(session) == (
        "Session(running at 1970-01-01T00:02:00Z, step 2 of 60 x 1m, equity 10010 USDT, fills: 1,"
        " pending: 1, of A)"
    )
    last = session.step(58)
    assert repr(last).endswith("1 closed, complete)")
    assert repr(session.results()).startswith(
        "Results(completed, final equity 10020, PnL 20 (0.20 %), trades: 1, fees 0, Sharpe ratio"
    )


def test_a_market_shows_a_few_of_its_symbols() -> None:
    shown = "Candles(A 1m, 120 from 1970-01-01T00:00:00Z to 1970-01-01T02:00:00Z)"
    assert repr(MARKET) == f"Market({shown})"
    many = Market([minutes(f"S{number}", 1.0) for number in range(600)])
    assert repr(many).endswith(", 597 more)")
    assert repr(Session(SessionConfig(start_time=0, end_time=MINUTE), many)).endswith(
        "of 600 symbols)"
    )


@pytest.mark.parametrize(
    "config",
    [
        SessionConfig(start_time=0, end_time="1970-01-02"),
        SessionConfig(
            start_time="2025-01-01", end_time="2025-02-01", starting_balance="123.45678901",
            candle_interval="1h", currency="EUR", fee_model="fixed_bps", fee_bps="2.5",
            slippage={"model": "fixed_bps", "bps": "0.25"}, trigger="close", liquidate_at_end=True,
            allow_gaps=True, risk=RiskProfile(max_order_size_pct=Decimal(20)),
        ),
        SessionConfig(
            start_time="2025-01-01", end_time="2025-02-01", fee_model="match_exchange",
            fee_schedule=[{"from": "2020-01-01", "maker": "0.001", "taker": "0.002"}],
        ),
    ],
)  # fmt: skip
def test_a_configuration_shows_the_call_that_makes_it(config: SessionConfig) -> None:
    again = eval(
        repr(config),
        {"SessionConfig": SessionConfig, "RiskProfile": RiskProfile, "Decimal": Decimal},
    )
    assert vars(again) == vars(config)
