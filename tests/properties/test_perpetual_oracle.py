"""Perpetual sessions against the oracle: every fill, payment and liquidation, to the last digit.

``--oracle-examples`` (or ORACLE_EXAMPLES) scales the number of random sessions, of which three
times as many run here; with ``-s`` the test prints what they came to. Thousands take minutes:
``ORACLE_EXAMPLES=5000 pytest -s tests/properties/test_perpetual_oracle.py``.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings

from tests.support.frequent import require_frequent
from tests.support.oracle import Refused
from tests.support.perpetual_agreement import Pair
from tests.support.perpetual_cases import Case, start_oracle
from tests.support.perpetual_oracle.oracle import Oracle
from tests.support.perpetual_oracle.values import Order
from tests.support.perpetual_sessions import start_session
from tests.support.perpetual_strategies import cases
from tests.support.session_cases import Refusal, answer_of


def compared(case: Case) -> Counter[str]:
    """Run a case on both sides, assert that they agree, and count what happened."""
    try:
        plain = start_oracle(case)
    except Refused as refused:
        code = refused.code
    else:
        pair = Pair(case, plain)
        for command in case.commands:
            pair.ask(command)
        pair.end()
        return counts_of(plain)
    assert answer_of(lambda: start_session(case)) == Refusal(code)
    return Counter(["refused"])


def counts_of(plain: Oracle) -> Counter[str]:
    exchange = plain.exchange
    liquidations = exchange.liquidations
    counts = Counter(
        {
            "sessions": 1,
            "fills": len(exchange.fills),
            "flips": exchange.flips,
            "payments": len(exchange.payments),
            "liquidations": len(liquidations),
            "of several symbols": len({one.symbol for one in liquidations}) > 1,
            "insured": any(one.insurance for one in exchange.account.positions.values()),
        }
    )
    counts.update(one.margin_mode for one in liquidations)
    counts.update("of a list" for order in exchange.orders if order.fill and is_listed(order))
    counts.update(str(order.reason) for order in exchange.orders if order.status != "filled")
    return counts


def is_listed(order: Order) -> bool:
    """Return whether an order is of a list that was placed, and not a bracket."""
    return order.list_id is not None and order.parent_id is None


def test_engine_and_plain_loop_agree_after_every_command() -> None:
    examples = 3 * settings().max_examples
    total: Counter[str] = Counter()

    @settings(max_examples=examples)
    @given(cases())
    def agree(case: Case) -> None:
        total.update(compared(case))

    least = {"fills": 2 * examples, "payments": examples}
    least |= dict.fromkeys(("flips", "liquidations"), examples // 16)
    least |= dict.fromkeys(("of a list", "replaced"), examples // 32)
    least |= dict.fromkeys(
        ("cross", "isolated", "of several symbols", "insured"), max(1, examples // 240)
    )
    require_frequent(agree, total, least)
