"""Mark lines, missing settlements and tiers against the oracle of perpetual futures."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import FundingRates, MarginTiers
from tests.support.oracle import EXACT, from_float
from tests.support.perpetual_cases import Case, start_oracle
from tests.support.perpetual_oracle.margin import maintenance, tier_table
from tests.support.perpetual_sessions import market_of
from tests.support.perpetual_strategies import Choices, cases, some_choices
from tests.support.perpetual_strategies import tier_table as drawn_tiers


@given(cases())
def test_the_line_that_values_a_symbol(case: Case) -> None:
    case = replace(case, config=replace(case.config, mark="auto"))
    market, plain = market_of(case), start_oracle(case.with_default_rate())
    for symbol in case.symbols:
        line = market.mark_line(symbol)
        bars = [bar.mark for bar in plain.exchange.market.bars if bar.mark.symbol == symbol]
        assert [int(time) for time in line.open_time] == [bar.open_time for bar in bars]
        for name in ("open", "high", "low", "close"):
            values = [from_float(float(value)) for value in getattr(line, name)]
            assert values == [getattr(bar, name) for bar in bars]


@given(cases())
def test_missing_settlements(case: Case) -> None:
    market, plain = market_of(case), start_oracle(case.with_default_rate())
    for symbol in case.symbols:
        rates = market.funding_of(symbol)
        if rates is None:
            rates = FundingRates(symbol, np.array([], dtype=np.int64), [])
        ends = market.candles_of(symbol).complete_time_of(-1)
        holes = rates.holes(case.config.start, case.config.end, ends)
        missing = plain.exchange.market.missing(symbol, plain.config)
        assert [int(time) for time in holes] == missing


@given(some_choices(4), st.lists(st.decimals(0, 50_000, places=8), min_size=1), st.integers(1, 125))
def test_maintenance_and_the_cap_of_a_leverage(
    choices: Choices, notionals: list[Decimal], leverage: int
) -> None:
    rows = drawn_tiers(choices, 1000)
    tiers = MarginTiers.parse(
        [{"floor": floor, "mmr": mmr, "max_leverage": most} for floor, mmr, most in rows]
    )
    with localcontext(EXACT):
        plain = tier_table(rows)
        for notional in notionals:
            assert tiers.maintenance(notional) == maintenance(notional, plain)
    caps = [tier.floor for tier in plain if tier.max_leverage < leverage]
    if leverage <= tiers.max_leverage:
        assert tiers.max_notional(Decimal(leverage)) == min(caps, default=None)
