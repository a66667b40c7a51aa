"""The quantity that an amount of margin opens: all that it pays for, and never more."""

from __future__ import annotations

from hypothesis import given, reject

from candlestep.sandbox import InvalidParameter, NoPrice, SandboxError
from tests.support import perpetual_strategies
from tests.support.perpetual_cases import Case, Place
from tests.support.perpetual_sessions import apply, start_session
from tests.support.runs import FEWER


@FEWER
@given(perpetual_strategies.cases())
def test_what_all_of_the_margin_opens_is_admitted_and_takes_no_more(case: Case) -> None:
    """Wherever a case places an order, a fork opens as much as it can on the same side."""
    try:
        session = start_session(case)
    except NoPrice:
        reject()
    for command in case.commands:
        if session.status != "running":
            return
        if isinstance(command, Place):
            fork, symbol = session.fork(), command.symbol
            held = fork.account.holding(symbol).quantity
            cash = fork.spendable(symbol)
            has_price = symbol in fork.prices()
            if cash and has_price and (held >= 0 if command.side == "buy" else held <= 0):
                quantity = fork.affordable(symbol=symbol, cash=cash, side=command.side)
                try:
                    if quantity:
                        fork.place_order(symbol=symbol, side=command.side, quantity=quantity)
                except InvalidParameter as refusal:
                    assert "rounds to zero" in refusal.message  # noqa: PT017
                except SandboxError as refusal:
                    # A position far from its mark may lack margin from the start.
                    assert "liquidated at once" in refusal.message  # noqa: PT017
                else:
                    assert fork.margin().available_balance >= 0
        apply(session, command)
