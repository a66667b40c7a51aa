"""Instruments: filters refuse by name and tell what would do; an unusable volume slips the least."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from candlestep.sandbox import (
    Filters,
    FilterViolated,
    Instrument,
    InvalidParameter,
    InvalidSymbol,
    Market,
    Session,
    SessionConfig,
)
from candlestep.sandbox.clock import MINUTE
from candlestep.sandbox.exchange.orders import OrderTicket
from candlestep.sandbox.strategies import compile_strategy, run
from tests.support.candles import minutes

BUY: dict[str, Any] = {"symbol": "BTCUSDT", "side": "buy", "quantity": 1}
LIMIT = BUY | {"type": "limit"}
STRICT = Filters(tick_size="0.05", step_size="0.001", min_quantity="0.01", min_notional=5)  # type: ignore[arg-type]
DECIMALS = st.integers(1, 10**6).map(lambda units: Decimal(units).scaleb(-4))


def a_session(*instruments: Any, **config: Any) -> Session:
    settings: dict[str, Any] = {"start_time": MINUTE, "end_time": 50 * MINUTE} | config
    market = Market([minutes("BTCUSDT", *[100.0] * 60), minutes("ETHUSDT", *[100.0] * 60)])
    return Session(SessionConfig(**settings, instruments=instruments), market)


def broken(session: Session, **order: Any) -> FilterViolated:
    """Place an order that must be refused, and return the refusal."""
    before = session.orders, session.portfolio()
    with pytest.raises(FilterViolated) as refusal:
        session.place_order(**order)
    assert (session.orders, session.portfolio()) == before
    return refusal.value


@pytest.mark.parametrize(
    ("order", "name", "field", "nearest"),
    [
        (LIMIT | {"price": "99.97"}, "tick_size", "price", "99.95"),
        (LIMIT | {"price": "99.975"}, "tick_size", "price", "100"),
        (LIMIT | {"price": "0.01", "quantity": 100}, "tick_size", "price", "0.05"),
        (BUY | {"type": "stop_loss", "trigger_price": "110.01"}, "tick_size", "trigger_price", "110"),
        (BUY | {"type": "market", "quantity": "1.0004"}, "step_size", "quantity", "1"),
        (BUY | {"type": "market", "quantity": "1.0005"}, "step_size", "quantity", "1.001"),
        # The nearest step is below what both other filters ask for.
        (BUY | {"type": "market", "quantity": "0.0004"}, "step_size", "quantity", "0.05"),
        (BUY | {"type": "market", "quantity": "0.009"}, "min_quantity", "quantity", "0.05"),
        (BUY | {"type": "market", "quantity": "0.049"}, "min_notional", "quantity", "0.05"),
        # Valued at its own price: 5 / 30 is 0.1666…
        (LIMIT | {"price": "30", "quantity": "0.166"}, "min_notional", "quantity", "0.167"),
    ],
)  # fmt: skip
def test_an_order_that_breaks_a_filter_is_refused_with_what_would_do(
    order: dict[str, Any], name: str, field: str, nearest: str
) -> None:
    session = a_session(Instrument("BTC/USDT", filters=STRICT))
    refusal = broken(session, **order)
    assert refusal.code == "INVALID_PARAMETER"
    assert refusal.details["field"] == field
    assert refusal.details["filter"] == name
    assert refusal.details["value"] == Decimal(str(order[field]))
    assert refusal.details["nearest"] == Decimal(nearest)
    assert f"{name} of BTCUSDT" in refusal.message
    assert refusal.message.endswith(f"the nearest that would do is {nearest}")
    assert session.place_order(**order | {field: nearest}).id == 1


@given(
    filters=st.builds(
        Filters,
        tick_size=st.none() | DECIMALS,
        step_size=st.none() | DECIMALS,
        min_quantity=st.none() | DECIMALS,
        min_notional=st.none() | DECIMALS,
    ),
    quantity=DECIMALS,
    price=DECIMALS,
)
def test_the_nearest_does_and_nothing_nearer_does(
    filters: Filters, quantity: Decimal, price: Decimal
) -> None:
    """The model counts in hundred-millionths: every admitted quantity is a whole number of steps."""
    instrument = Instrument("BTCUSDT", filters=filters)
    tick, step = filters.tick_size or Decimal("1e-16"), filters.step_size or Decimal("1e-8")
    near_price = instrument.nearest_price(price)
    assert near_price % tick == 0
    assert near_price > 0
    if filters.tick_size and near_price > tick:
        assert abs(near_price - price) * 2 <= tick

    def admits(number: Decimal) -> bool:
        least = filters.min_quantity or 0
        enough = number * near_price >= (filters.min_notional or 0)
        return number > 0 and number % step == 0 and number >= least and enough

    nearest = instrument.nearest_quantity(quantity, near_price)
    assert admits(nearest)
    if nearest > quantity:
        assert not admits(nearest - step) or quantity - (nearest - step) >= nearest - quantity
    else:
        assert quantity - nearest < step
    largest = instrument.quantity_up_to(quantity, near_price)
    assert largest == 0 or (admits(largest) and largest <= quantity < largest + step)
    if largest == 0:
        assert not admits(quantity - quantity % step)

    ticket = OrderTicket("BTCUSDT", "buy", "limit", quantity, price=near_price)
    if admits(quantity):
        instrument.require_order(ticket, Decimal(1))
    else:
        with pytest.raises(FilterViolated) as refusal:
            instrument.require_order(ticket, Decimal(1))
        assert refusal.value.details["nearest"] == nearest


@given(cash=st.decimals(20, 1000, places=8), price=st.sampled_from(["50", "99.95", "130"]))
def test_what_is_affordable_can_be_ordered(cash: Decimal, price: str) -> None:
    session = a_session(Instrument("BTCUSDT", filters=STRICT), starting_balance=1000)
    terms: dict[str, Any] = {"symbol": "BTCUSDT", "type": "limit", "price": price}
    quantity = session.affordable(**terms, cash=cash)
    assume(quantity)
    session.place_order(side="buy", quantity=quantity, **terms)
    assert session.portfolio().available_cash >= 1000 - cash


def test_only_the_symbol_with_filters_is_filtered() -> None:
    session = a_session(Instrument("BTCUSDT", filters=STRICT))
    order: dict[str, Any] = {"side": "buy", "type": "market", "quantity": "0.0001"}
    assert session.place_order(symbol="ETHUSDT", **order).status == "filled"
    broken(session, symbol="btc/usdt", **order)


def test_what_the_session_does_itself_is_not_filtered() -> None:
    """A rest below the smallest quantity can be sold at the end, and by what is left of a stop."""
    session = a_session(
        Instrument("BTCUSDT", filters=Filters(min_quantity=Decimal(1))), liquidate_at_end=True
    )
    session.place_order(**BUY | {"type": "market", "quantity": "1.5"})
    session.place_order(**BUY | {"side": "sell", "type": "market"})
    session.step(100)
    assert session.account.open_holdings == {}


def test_an_unusable_volume_slips_the_least_like_no_volume_at_all() -> None:
    def slippage(*instruments: Any) -> Decimal:
        order = a_session(*instruments).place_order(**BUY | {"type": "market"})
        assert order.fill is not None
        return order.fill.slippage

    assert slippage() == Decimal("0.1")
    assert slippage(Instrument("ETHUSDT", volume_usable=False)) == Decimal("0.1")
    assert slippage(Instrument("BTCUSDT", volume_usable=False)) == Decimal("0.0001")
    assert slippage({"symbol": "btc-usdt", "volume_usable": False}) == Decimal("0.0001")


def test_a_resting_stop_slips_the_least_too() -> None:
    session = a_session(Instrument("BTCUSDT", volume_usable=False))
    session.place_order(**BUY | {"type": "market"})
    stop: dict[str, Any] = {"side": "sell", "type": "stop_loss", "trigger_price": 100}
    session.place_order(**BUY | stop)
    [order] = session.step(2).orders_filled
    assert order.fill is not None
    assert order.fill.slippage == Decimal("0.0001")


def test_an_instrument_is_a_value_that_becomes_plain_values_and_back() -> None:
    instrument = Instrument("BTC/USDT", filters=STRICT, volume_usable=False)
    assert (instrument.symbol, instrument.kind) == ("BTCUSDT", "spot")
    assert (instrument.base, instrument.quote) == ("BTC", "USDT")
    assert instrument.settings() == {
        "symbol": "BTCUSDT", "kind": "spot", "base": "BTC", "quote": "USDT", "volume_usable": False,
        "filters": {
            "tick_size": "0.05", "step_size": "0.001", "min_quantity": "0.01", "min_notional": "5"
        },
    }  # fmt: skip
    assert Instrument.parse(instrument.settings()) == instrument
    assert Instrument.parse(instrument) is instrument
    assert not instrument.is_plain
    assert Instrument("X1") == Instrument("X1", kind="spot", base=None, quote=None)
    assert Instrument("X1").is_plain
    with pytest.raises(AttributeError):
        instrument.volume_usable = True  # type: ignore[misc]
    session = a_session(instrument)
    assert session.instrument("btcusdt") == instrument
    assert session.instrument("ETHUSDT") == Instrument("ETHUSDT")
    config = session.config
    again = eval(repr(config), {name: globals()[name] for name in ("Filters", "Instrument")} | {
        "SessionConfig": SessionConfig, "Decimal": Decimal, "RiskProfile": type(config.risk),
    })  # fmt: skip
    assert again.instruments == config.instruments


@pytest.mark.parametrize(
    ("instruments", "error", "words"),
    [
        ("BTCUSDT", InvalidParameter, "list of instruments"),
        (["BTCUSDT"], InvalidParameter, "list of instruments"),
        ([{}], InvalidParameter, "symbol"),
        ([{"symbol": "BTCUSDT", "tick": 1}], InvalidParameter, "tick"),
        ([{"symbol": "BTCUSDT", "filters": {"tick": 1}}], InvalidParameter, "tick"),
        ([{"symbol": "BTCUSDT", "filters": 5}], InvalidParameter, "filters"),
        ([{"symbol": "BTCUSDT", "filters": {"tick_size": 0}}], InvalidParameter, "positive"),
        ([{"symbol": "BTCUSDT", "filters": {"step_size": "1e-9"}}], InvalidParameter, "zero"),
        ([{"symbol": "BTCUSDT", "filters": {"step_size": "1.000000001"}}], InvalidParameter, "8 dec"),
        ([{"symbol": "BTCUSDT", "kind": "perp"}], InvalidParameter, "spot"),
        ([{"symbol": "BTCUSDT", "volume_usable": "no"}], InvalidParameter, "true or false"),
        ([{"symbol": "BTCUSDT-PERP"}], InvalidParameter, "perpetual"),
        ([{"symbol": "BTCUSD_PERP"}], InvalidSymbol, "perpetual"),
        ([{"symbol": "BTCUSDT"}, {"symbol": "btc/usdt"}], InvalidParameter, "BTCUSDT twice"),
    ],
)  # fmt: skip
def test_what_is_no_instrument_is_refused(
    instruments: Any, error: type[InvalidParameter], words: str
) -> None:
    with pytest.raises(error, match=words):
        SessionConfig(start_time=0, end_time=MINUTE, instruments=instruments)


def test_a_strategy_rounds_to_ticks_and_steps() -> None:
    """Its numbers are computed: a price from a percentage, a quantity from a share of the equity."""
    session = a_session(Instrument("BTCUSDT", filters=STRICT), starting_balance=1000)
    card: dict[str, Any] = {
        "timeframe": "1m",
        "symbols": ["BTCUSDT"],
        "entries": [
            {
                "when": {"left": "close", "op": ">", "right": 1},
                "size": {"equity_share": 0.333},
                "stop_loss": {"percent": 1.237},
            }
        ],
    }
    strategy = compile_strategy(card)
    done = run(strategy, session.config, session.market)
    placed = done.session.orders
    assert [order.type for order in placed[:2]] == ["market", "stop_loss"]
    for order in placed:
        assert order.quantity % Decimal("0.001") == 0
        assert (order.price or order.trigger_price or Decimal(0)) % Decimal("0.05") == 0
