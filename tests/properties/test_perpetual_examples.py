"""Perpetual sessions and their oracle against numbers worked out by hand (chapter, sections 3 and 7)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import Any

import pytest

from tests.support.oracle import EXACT, Refused, rounded
from tests.support.perpetual_agreement import Pair
from tests.support.perpetual_cases import (
    Case,
    Command,
    Config,
    Oco,
    Place,
    Rates,
    Replace,
    SetLeverage,
    SetMarginMode,
    Settlement,
    TierRow,
    Transfer,
    start_oracle,
)
from tests.support.perpetual_oracle.account import Account, Position
from tests.support.perpetual_oracle.margin import liquidation_price, maintenance, tier_table
from tests.support.perpetual_oracle.values import Fill, Liquidation, Tier
from tests.support.project import SHARED
from tests.support.session_cases import HOUR, MINUTE, Bar, Refusal, Series, Step

START = 1_709_164_800_000  # 2024-02-29T00:00:00Z
BTC, ETH = "BTCUSDT-PERP", "ETHUSDT-PERP"
A, B = "AAAUSDT-PERP", "BBBUSDT-PERP"
BTC_TIERS: tuple[TierRow, ...] = (
    ("0", "0.004", 150),
    ("300000", "0.005", 100),
    ("800000", "0.0065", 75),
    ("3000000", "0.01", 50),
    ("12000000", "0.02", 20),
)
Path = float | tuple[float, float, float, float]
D = Decimal


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    with localcontext(EXACT):
        yield


def hours(symbol: str, *paths: Path, interval: int = HOUR, first: int = START - HOUR) -> Series:
    """Return candles one after another, flat or (open, high, low, close); the first is complete
    when the session starts."""
    bars = []
    for index, path in enumerate(paths):
        prices = path if isinstance(path, tuple) else (path,) * 4
        bars.append(Bar(first + index * interval, *prices, 1000.0))
    return Series(symbol, interval, tuple(bars))


def case(*market: Series, **settings: Any) -> Case:
    """Return a case of hourly steps; settings are those of ``Config`` and ``Case``."""
    marks, funding = settings.pop("marks", ()), settings.pop("funding", ())
    end = max(series.bars[-1].open_time + series.interval for series in market)
    defaults = {"interval": HOUR, "balance": "10000", "funding": bool(funding)}
    config = Config(start=START, end=end, **{**defaults, **settings})
    return Case(market, config, marks=marks, funding=funding)


def told(case: Case, *commands: Command) -> Pair:
    """Return both after these commands, none of which they may refuse."""
    session = Pair(case, start_oracle(case))
    for command in commands:
        answer = session.ask(command)
        assert not isinstance(answer, Refusal), (command, answer)
    return session


def buy(symbol: str, quantity: str) -> Place:
    return Place(symbol, "buy", "market", quantity)


def sell(symbol: str, quantity: str) -> Place:
    return Place(symbol, "sell", "market", quantity)


def position(session: Pair, symbol: str) -> Position:
    return session.exchange.account.positions[symbol]


def threshold(session: Pair, symbol: str) -> Decimal:
    price = session.exchange.account.liquidation_price(
        position(session, symbol), session.exchange.marks()
    )
    assert price is not None
    return rounded(price, 8)


def only(session: Pair) -> tuple[Liquidation, Fill]:
    """Return the one liquidation there was, and its fill."""
    (liquidation,) = session.exchange.liquidations
    (fill,) = [fill for fill in session.exchange.fills if fill.is_liquidation]
    return liquidation, fill


# Section 3


def test_a_isolated_long_funding_and_partial_close() -> None:
    settlement = Settlement(START + HOUR, 0.0001, 8 * HOUR, 60500.0)
    session = told(
        case(
            hours(BTC, 60000.0, (60000.0, 61000.0, 60000.0, 61000.0)),
            funding=(Rates(BTC, (settlement,)),),
            margin_mode="isolated",
            tiers=((BTC, BTC_TIERS),),
        )
    )
    account, held = session.exchange.account, position(session, BTC)
    session.ask(buy(BTC, "0.5"))
    assert (held.fees, held.isolated_wallet, account.cross) == (D(15), D(3000), D(6985))
    assert threshold(session, BTC) == D("54216.86746988")
    assert account.bankruptcy_price(held, session.exchange.marks()) == 54000
    session.ask(Step(1))
    (payment,) = session.exchange.payments
    assert (payment.amount, held.isolated_wallet) == (D("-3.025"), D("2996.975"))
    assert threshold(session, BTC) == D("54222.94176707")


def test_a_partial_close_leaves_the_threshold() -> None:
    settlement = Settlement(START + HOUR, 0.0001, HOUR, 60500.0)
    session = told(
        case(
            hours(BTC, 60000.0, (60000.0, 61000.0, 60000.0, 61000.0), 61000.0),
            funding=(Rates(BTC, (settlement, replace(settlement, time=START + 2 * HOUR))),),
            margin_mode="isolated",
            tiers=((BTC, BTC_TIERS),),
        ),
        buy(BTC, "0.5"),
        Step(1),
        sell(BTC, "0.2"),
    )
    account, held = session.exchange.account, position(session, BTC)
    assert (held.closed_pnl, session.exchange.fills[-1].fee) == (D(200), D("6.1"))
    assert (held.isolated_wallet, threshold(session, BTC)) == (
        D("1798.185"),
        D("54222.94176707"),
    )
    assert (account.wallet, account.cross) == (D("10175.875"), D("8377.69"))
    assert session.exchange.portfolio().unrealized_pnl == 300


SHORT_ETH = {"margin_mode": "isolated", "leverage": 20, "fee_rate": "0"}


def test_b_isolated_short_is_liquidated_for_what_is_left() -> None:
    market = hours(ETH, 3000.0, (3000.0, 3140.0, 3000.0, 3100.0))
    session = told(case(market, **SHORT_ETH), sell(ETH, "2"))
    account, held = session.exchange.account, position(session, ETH)
    assert held.isolated_wallet == 300
    assert threshold(session, ETH) == D("3137.45019920")
    assert account.bankruptcy_price(held, session.exchange.marks()) == 3150
    session.ask(Step(1))
    liquidation, fill = only(session)
    assert rounded(liquidation.price, 8) == D("3137.45019920")
    assert liquidation.closed_pnl == D("-274.90039841")
    assert liquidation.fee == fill.fee == D("25.09960159")
    assert (account.wallet, account.cross, liquidation.insurance) == (D(9700), D(9700), 0)
    order = session.exchange.orders[-1]
    assert (order.id, order.side, order.type, order.reason) == (2, "buy", "market", "liquidation")
    assert order.reduce_only
    assert (fill.closed_quantity, fill.slippage, fill.realized_pnl) == (D(2), 0, D(-300))


def test_b_a_gap_costs_no_more_than_the_isolated_wallet() -> None:
    session = told(case(hours(ETH, 3000.0, 3200.0), **SHORT_ETH), sell(ETH, "2"), Step(1))
    liquidation, _ = only(session)
    assert (liquidation.price, liquidation.closed_pnl) == (D(3200), D(-400))
    assert (liquidation.fee, liquidation.insurance) == (0, D(100))
    assert session.exchange.account.cross == 9700


@pytest.mark.parametrize(
    ("isolated", "eth_price", "btc_price"),
    [(False, "1153.25646424", "26316.89326452"), (True, "1114.78", "18778.73")],
)
def test_c_cross_with_two_longs(isolated: bool, eth_price: str, btc_price: str) -> None:
    """The venue's own example: a bracket of each symbol, whatever the notional."""
    wallet = D("1535443.01")
    eth = Position(ETH, (Tier(D(0), D("0.1"), D(135365), 10),), 10, isolated)
    btc = Position(BTC, (Tier(D(0), D("0.025"), D(16300), 10),), 10, isolated)
    eth.quantity, btc.quantity = D("3683.979"), D("109.488")
    eth.cost, btc.cost = eth.quantity * D("1456.84"), btc.quantity * D("32481.98")
    if isolated:
        eth.isolated_wallet = btc.isolated_wallet = wallet
    account = Account(wallet, {ETH: eth, BTC: btc})
    marks = {ETH: D("1335.18"), BTC: D("31967.27")}
    assert account.needed(btc, marks) == D("71200.811444")
    assert account.needed(eth, marks) == D("356512.508122")
    assert btc.unrealized_pnl(marks[BTC]) == D("-56354.56848")
    assert eth.unrealized_pnl(marks[ETH]) == D("-448192.88514")
    for held, price in ((eth, eth_price), (btc, btc_price)):
        found = account.liquidation_price(held, marks)
        assert found is not None
        assert rounded(found, len(price.partition(".")[2])) == D(price)


def test_c_older_examples_of_the_venue() -> None:
    bracket = (Tier(D(0), D("0.004"), D(0), 125),)
    others = D("10.72") - D("1.3") + D("0.47")
    found = liquidation_price(D("-0.005"), D("0.005") * D("9451.53"), others, bracket)
    assert found is not None
    assert rounded(found, 2) == D("11383.99")
    bracket = (Tier(D(0), D("0.0065"), D(0), 125),)
    others = D("10.72") - D("0.19") + D("-0.06")
    found = liquidation_price(D(1), D("199.53"), others, bracket)
    assert found is not None
    assert rounded(found, 4) == D("190.2969")


def test_d_tier_boundary() -> None:
    tiers = tier_table(BTC_TIERS)
    assert [tier.cum for tier in tiers] == [0, 300, 1500, 12000, 132000]
    assert [300_000 * tier.mmr - tier.cum for tier in tiers[:2]] == [1200, 1200]
    assert maintenance(D(300_000), tiers) == 1200
    long = liquidation_price(D(6), D(300_000), D(15_000), tiers)
    short = liquidation_price(D(-6), D(294_000), D(14_700), tiers)
    assert long is not None
    assert short is not None
    assert rounded(long, 8) == D("47690.76305221")
    assert rounded(short, 8) == D("51243.78109453")


def test_e_flip_from_long_to_short() -> None:
    session = told(
        case(
            hours(BTC, 60000.0, (60000.0, 61200.0, 60000.0, 61200.0), 61200.0),
            tiers=((BTC, BTC_TIERS),),
        ),
        buy(BTC, "1"),
        Step(1),
        sell(BTC, "1.5"),
    )
    account, held = session.exchange.account, position(session, BTC)
    fill = session.exchange.fills[-1]
    assert (fill.closed_pnl, fill.closed_quantity, fill.fee) == (D(1200), D(1), D("45.9"))
    assert fill.realized_pnl == D("1154.1")
    assert account.wallet == D("11124.1")
    assert (held.quantity, held.entry_price) == (D("-0.5"), D(61200))
    assert account.initial_margin(BTC, D(61200), []) == 3060
    assert threshold(session, BTC) == D("83115.73705179")


@pytest.mark.parametrize(
    ("rate", "fee", "wallet"),
    [("0.0125", "44.20080321", "0"), ("0.002", "22.10040161", "22.10040160")],
)
def test_f_cross_liquidation_with_fee(rate: str, fee: str, wallet: str) -> None:
    session = told(
        case(
            hours(BTC, 60000.0, (60000.0, 60000.0, 50000.0, 60000.0)),
            balance="1000",
            leverage=20,
            liquidation_fee=rate,
            tiers=((BTC, BTC_TIERS),),
        ),
        buy(BTC, "0.2"),
    )
    account = session.exchange.account
    assert (account.wallet, threshold(session, BTC)) == (D(994), D("55251.00401606"))
    session.ask(Step(1))
    liquidation, _ = only(session)
    assert rounded(liquidation.price, 8) == D("55251.00401606")
    assert liquidation.closed_pnl == D("-949.79919679")
    assert (liquidation.fee, account.wallet) == (D(fee), D(wallet))


def test_g_real_funding() -> None:
    files = SHARED / "data" / "perpetual"
    if not files.exists():
        pytest.skip("the real perpetual candles are not here")
    symbol = "XRPUSDT-PERP"

    def candles(name: str, interval: int) -> Series:
        with (files / f"binance_XRPUSDT_{name}.csv").open() as file:
            rows = [row[:5] for row in csv.reader(file) if row[0].isdigit()]
        bars = [
            Bar(int(time), float(o), float(h), float(low), float(close), 0.0)
            for time, o, h, low, close in rows
        ]
        return Series(symbol, interval, tuple(bars))

    with (files / "binance_XRPUSDT_funding_20211118_20211218.csv").open() as file:
        rows = [row for row in csv.reader(file) if row[0].isdigit()]
    settlements = tuple(
        Settlement(round(int(row[0]) / MINUTE) * MINUTE, float(row[2]), int(row[1]) * HOUR)
        for row in rows
    )
    started = settlements[0].time - HOUR

    def payments(candles: Series, *marks: Series) -> list[Decimal]:
        config = Config(started, started + 34 * HOUR, HOUR, "100000", fee_rate="0")
        rates = (Rates(symbol, settlements),)
        case = Case((candles,), config, marks=marks, funding=rates)
        session = told(case, sell(symbol, "10000"), Step(34))
        assert sum(one.amount for one in session.exchange.payments) == (
            position(session, symbol).funding
        )
        return [one.amount for one in session.exchange.payments]

    hourly, marks = candles("perp_1h_20211117_20211121", HOUR), "mark_1h_20211115_20211119"
    by_mark = payments(hourly, candles(marks, HOUR))
    assert by_mark == [D(one) for one in ("1.095", "1.1072", "1.05497", "1.0411", "1.04268")]
    assert sum(by_mark) == D("5.34095")
    # The chapter's sum by last price is that of the candles of 5 minutes.
    assert sum(payments(candles("perp_5m_20211115_20211121", 5 * MINUTE))) == D("5.3426")
    assert sum(payments(hourly)) == D("5.3417")


# Section 7


def test_1_a_debt_is_not_insured_while_a_cross_position_pays_for_it() -> None:
    market = (
        hours(BTC, 60000.0, (60000.0, 62000.0, 60000.0, 62000.0), 62000.0),
        hours(ETH, 3000.0, 3000.0, (3000.0, 3300.0, 3000.0, 3300.0)),
    )
    # Without a fee, which would take the 378.49 that are left.
    session = told(
        case(*market, balance="1000", leverage=125, fee_rate="0", liquidation_fee="0"),
        buy(BTC, "1"),
        sell(ETH, "10"),
        Step(2),
    )
    liquidation, _ = only(session)
    assert (liquidation.symbol, liquidation.insurance) == (ETH, 0)
    assert rounded(liquidation.price, 8) == D("3262.15139442")
    portfolio = session.exchange.portfolio()
    assert rounded(session.exchange.account.wallet, 2) == D("-1621.51")
    assert rounded(portfolio.total_equity, 2) == D("378.49")
    assert (portfolio.available_cash, portfolio.locked_cash) == (0, session.exchange.account.wallet)


def test_1_with_the_default_fee_both_go_and_nothing_is_left() -> None:
    market = (
        hours(BTC, 60000.0, (60000.0, 62000.0, 60000.0, 62000.0), 62000.0),
        hours(ETH, 3000.0, 3000.0, (3000.0, 3300.0, 3000.0, 3300.0)),
    )
    session = told(
        case(*market, balance="1000", leverage=125, fee_rate="0"),
        buy(BTC, "1"),
        sell(ETH, "10"),
        Step(2),
    )
    assert [one.symbol for one in session.exchange.liquidations] == [ETH, BTC]
    assert [one.insurance for one in session.exchange.liquidations] == [0, 0]
    assert session.exchange.account.wallet == 0


def test_2_a_loss_beyond_the_margin_is_charged_to_the_cross_wallet() -> None:
    session = told(
        case(
            hours(A, 100.0, (100.0, 100.0, 91.0, 91.0), 91.0),
            margin_mode="isolated",
            fee_rate="0",
            slippage="fixed_bps",
            bps="1000",
            balance="1000",
            leverage=5,
            liquidate_at_end=True,
        ),
        buy(A, "4"),
        Step(2),
    )
    account = session.exchange.account
    # Bought at 110, sold at 81.9: 112.4 lost of a margin of 88.
    assert position(session, A).closed_pnl == D("-112.4")
    assert account.cross == D("887.6")


def test_2_insurance_covers_a_debt_that_a_closing_fill_leaves() -> None:
    session = told(
        case(
            hours(A, 100.0, (100.0, 106.0, 100.0, 106.0), 106.0),
            fee_rate="0",
            slippage="fixed_bps",
            bps="1000",
            balance="100",
            leverage=10,
            liquidate_at_end=True,
        ),
        sell(A, "4"),
        Step(2),
    )
    # Sold at 90, bought back at 116.6: 106.4 lost of 100.
    held = position(session, A)
    assert (held.closed_pnl, held.insurance) == (D("-106.4"), D("6.4"))
    assert session.exchange.portfolio().total_equity == 0


def test_3_an_instant_is_walked_to_its_end() -> None:
    """A entry of A fills and A falls; then the low of B liquidates, though its close would not."""
    market = (
        hours(A, 100.0, (100.0, 110.0, 80.0, 80.0)),
        hours(B, 100.0, (100.0, 100.0, 94.0, 100.0)),
    )
    entry = Place(A, "buy", "stop_loss", "20", trigger_price="110", reduce_only=False)
    commands = (buy(B, "100"), entry, Step(1))
    base = case(*market, balance="1000", leverage=25, fee_rate="0", liquidation_fee="0")
    session = told(base, *commands)
    # F at B's low: 1000 - 20 x 30 - 600 is below 0; at its close 400 - 46.4 is above.
    liquidation, _ = only(session)
    assert liquidation.symbol == B
    # 1000 - 600 - 6.4 + 100 p - 10000 = 0.4 p
    assert rounded(liquidation.price, 8) == D("96.44979920")


def test_6_a_flip_that_fails_is_refused_whole() -> None:
    session = told(case(hours(A, 100.0, 100.0), fee_rate="0", balance="100"), buy(A, "5"))
    assert session.ask(sell(A, "15.00000001")) == Refusal("INSUFFICIENT_MARGIN")
    assert position(session, A).quantity == 5
    session.ask(sell(A, "15"))
    assert position(session, A).quantity == -10


def test_6_the_cap_of_the_leverage() -> None:
    tiers: tuple[TierRow, ...] = (("0", "0.01", 50), ("1000", "0.02", 20))
    session = told(case(hours(A, 100.0, 100.0), tiers=((A, tiers),), leverage=21), buy(A, "9"))
    assert session.ask(buy(A, "1.01")) == Refusal("LEVERAGE_LIMIT")
    told_to_rest = Place(A, "buy", "limit", "1", price="50")
    session.ask(told_to_rest)
    assert session.ask(buy(A, "0.51")) == Refusal("LEVERAGE_LIMIT")
    session.ask(SetLeverage(A, 20))
    assert not isinstance(session.ask(buy(A, "0.51")), Refusal)
    assert session.ask(SetLeverage(A, 21)) == Refusal("LEVERAGE_LIMIT")


def test_6_a_resting_order_is_tested_again_at_its_trigger() -> None:
    entry = Place(A, "buy", "limit", "10", price="90")
    session = told(
        case(hours(A, 100.0, (100.0, 100.0, 90.0, 100.0)), fee_rate="0", balance="100"),
        entry,
        buy(A, "1"),
        Step(1),
    )
    order = session.exchange.orders[0]
    assert (order.status, order.reason) == ("rejected", "insufficient_margin")


def test_7_the_mark_line_values_and_liquidates_and_holes_are_traded_prices() -> None:
    market = hours(A, 100.0, (100.0, 100.0, 70.0, 100.0), 100.0, (100.0, 100.0, 89.0, 100.0))
    marks = hours(A, 100.0, 100.0, (100.0, 101.0, 99.0, 101.0))
    session = told(
        case(market, marks=(marks,), fee_rate="0", balance="100", liquidation_fee="0"),
        buy(A, "10"),
        Step(2),
    )
    # The wick to 70 was not on the mark's path; the account is valued at 101.
    assert session.exchange.liquidations == []
    assert session.exchange.portfolio().total_equity == 110
    session.ask(Step(1))
    # No mark candle: the traded one counts, and at 90.36144578 what is left is maintenance.
    liquidation, _ = only(session)
    assert rounded(liquidation.price, 8) == D("90.36144578")


def test_7_finer_marks_count_together_and_coarser_ones_settle_funding_only() -> None:
    market = hours(A, 100.0, (100.0, 100.0, 80.0, 100.0), 100.0)
    finer = hours(A, 100.0, (100.0, 104.0, 100.0, 102.0), interval=HOUR // 2, first=START)
    fall = (100.0, 100.0, 50.0, 50.0)
    coarser = hours(A, fall, interval=2 * HOUR, first=START)
    settlements = (Settlement(START + 2 * HOUR, 0.01, 8 * HOUR),)
    rates = (Rates(A, settlements),)
    settings: dict[str, Any] = {"fee_rate": "0", "balance": "100", "funding": rates}
    session = told(case(market, marks=(finer,), **settings), buy(A, "10"), Step(1))
    assert session.exchange.liquidations == []
    assert session.exchange.portfolio().unrealized_pnl == 20
    session = told(case(market, marks=(coarser,), **settings), buy(A, "3"), Step(2))
    assert session.exchange.liquidations == []
    assert [payment.amount for payment in session.exchange.payments] == [D("-1.5")]


def test_8_a_mark_stands_at_the_same_fraction_of_its_leg() -> None:
    """The price falls from 103 to 90; at 95, after 8/13 of that, the mark has as much of its leg
    from 103 to 94 behind it, and stands at 97.46153846."""
    market = hours(A, 100.0, (100.0, 103.0, 90.0, 95.0))
    marks = hours(A, 100.0, (100.0, 103.0, 94.0, 95.0))
    entry = Place(A, "buy", "limit", "10", price="95")
    # 10 are worth 974.61538462: a profit of 24.61538462, and a margin of 48.73076924 at 20 x.
    for balance, status in (("24.11538462", "filled"), ("24.11538461", "rejected")):
        settings: dict[str, Any] = {"fee_rate": "0", "leverage": 20, "balance": balance}
        session = told(case(market, marks=(marks,), **settings), entry, Step(1))
        assert session.exchange.orders[0].status == status


def test_9_rows_after_the_start_up_to_the_end_are_paid() -> None:
    rates = Rates(A, tuple(Settlement(START + k * HOUR, 0.001, HOUR) for k in range(4)))
    session = told(
        case(hours(A, 100.0, 100.0, 100.0), funding=(rates,), fee_rate="0", liquidate_at_end=True),
        buy(A, "1"),
        Step(2),
    )
    assert [one.time for one in session.exchange.payments] == [START + HOUR, START + 2 * HOUR]
    assert position(session, A).quantity == 0


def test_9_what_a_candle_fills_pays_and_what_the_agent_opens_then_does_not() -> None:
    rates = Rates(A, tuple(Settlement(START + k * HOUR, 0.001, HOUR) for k in range(4)))
    market = hours(A, 100.0, (100.0, 100.0, 90.0, 100.0), 100.0, 100.0)
    session = told(
        case(market, funding=(rates,), fee_rate="0"),
        Place(A, "buy", "limit", "1", price="90"),
        Step(1),
        buy(A, "1"),
        Step(1),
    )
    assert [one.amount for one in session.exchange.payments] == [D("-0.1"), D("-0.2")]


def test_10_missing_rows() -> None:
    settlements = (
        Settlement(START + 2 * HOUR, 0.001, HOUR),
        Settlement(START + 5 * HOUR, 0.001, 2 * HOUR),
    )
    gapped = case(
        hours(A, *[100.0] * 10),
        funding=(Rates(A, settlements),),
        fee_rate="0",
        default_rate="0.002",
    )
    session = told(gapped, buy(A, "1"), Step(9))
    assert [((one.time - START) // HOUR, one.amount) for one in session.exchange.payments] == [
        (hour, D("-0.1") if hour in (2, 5) else D("-0.2")) for hour in (1, 2, 3, 4, 5, 7, 9)
    ]
    with pytest.raises(Refused, match="NO_DATA"):
        start_oracle(replace(gapped, config=replace(gapped.config, default_rate=None)))


def test_11_an_isolated_wallet_may_be_negative_while_its_position_pays() -> None:
    rates = Rates(A, (Settlement(START + HOUR, 0.1, HOUR), Settlement(START + 2 * HOUR, 0, HOUR)))
    market = hours(A, 100.0, (100.0, 150.0, 100.0, 150.0), 150.0)
    session = told(
        case(market, funding=(rates,), fee_rate="0", margin_mode="isolated"),
        buy(A, "10"),
        Step(1),
    )
    held, account = position(session, A), session.exchange.account
    assert held.isolated_wallet == -50
    session.ask(sell(A, "4"))
    assert (held.isolated_wallet, account.cross) == (D(-30), D(9900) - 20 + 200)


def test_11_transfers_and_leverage_of_an_isolated_position() -> None:
    session = told(
        case(hours(A, 100.0, 100.0), fee_rate="0", margin_mode="isolated", balance="1000"),
        buy(A, "50"),
    )
    held, account = position(session, A), session.exchange.account
    assert session.ask(Transfer(A, "500.00000001")) == Refusal("INSUFFICIENT_MARGIN")
    assert session.ask(Transfer(A, "-0.00000001")) == Refusal("INSUFFICIENT_MARGIN")
    session.ask(SetLeverage(A, 20))
    assert held.isolated_wallet == 500
    session.ask(Transfer(A, "-250"))
    assert (held.isolated_wallet, account.cross) == (D(250), D(750))
    assert session.ask(SetLeverage(A, 10)) == Refusal("INVALID_STATE")
    assert session.ask(SetMarginMode(A, "cross")) == Refusal("INVALID_STATE")


def test_12_at_a_close_liquidation_comes_before_orders() -> None:
    market = hours(A, 100.0, (100.0, 100.0, 50.0, 95.0), 90.0)
    stop = Place(A, "sell", "stop_loss", "10", trigger_price="92")
    session = told(
        case(market, trigger="close", fee_rate="0", balance="100", liquidation_fee="0"),
        buy(A, "10"),
        stop,
        Step(2),
    )
    liquidation, fill = only(session)
    assert (liquidation.price, fill.time) == (D(90), START + 2 * HOUR)
    assert session.exchange.orders[1].reason == "liquidation"


def test_a_stop_before_the_threshold_saves_the_position_and_one_behind_does_not() -> None:
    market = hours(A, 100.0, (100.0, 100.0, 50.0, 95.0))
    for level, liquidated in (("90.36144579", False), ("90.36144578", True)):
        stop = Place(A, "sell", "stop_loss", "10", trigger_price=level)
        session = told(
            case(market, fee_rate="0", balance="100"),
            buy(A, "10"),
            stop,
            Step(1),
        )
        assert bool(session.exchange.liquidations) == liquidated


def test_what_opens_on_the_way_may_be_liquidated_further_on_but_not_by_what_came_before() -> None:
    """It is bought at 110 on the second leg, up from a low of 90, and falls to a close of 99."""
    entry = Place(A, "buy", "stop_loss", "9", trigger_price="110", reduce_only=False)
    market = hours(A, 100.0, (100.0, 112.0, 90.0, 99.0))
    session = told(
        case(market, fee_rate="0", balance="100", leverage=100, liquidation_fee="0"),
        entry,
        Step(1),
    )
    # 100 + 9 p - 990 = 0.036 p
    assert [rounded(one.price, 8) for one in session.exchange.liquidations] == [D("99.28603302")]


def test_13_only_the_close_counts_for_what_was_opened_inside_a_candle() -> None:
    market = hours(A, 100.0, (100.0, 100.0, 80.0, 95.0), (95.0, 95.0, 80.0, 95.0))
    settings: dict[str, Any] = {"interval": 30 * MINUTE, "fee_rate": "0", "balance": "100"}
    session = told(case(market, **settings), Step(1), buy(A, "10"), Step(1))
    assert session.exchange.liquidations == []
    assert session.exchange.portfolio().total_equity == 50
    session.ask(Step(2))
    assert [one.time for one in session.exchange.liquidations] == [START + 2 * HOUR]


def test_13_what_was_open_before_keeps_the_whole_path() -> None:
    market = hours(A, 100.0, (100.0, 100.0, 90.0, 95.0))
    settings: dict[str, Any] = {"interval": 30 * MINUTE, "fee_rate": "0", "balance": "100"}
    for command in (sell(A, "1"), buy(B, "0.01")):
        session = told(
            case(market, hours(B, 100.0, 100.0), **settings), buy(A, "9.9"), Step(1), command
        )
        session.ask(Step(1))
        assert bool(session.exchange.liquidations) == (command.symbol == B)


def test_14_liquidation_at_the_price_of_bankruptcy() -> None:
    settings: dict[str, Any] = {"fee_rate": "0", "balance": "100", "liquidation_at": "bankruptcy"}
    market = hours(A, 100.0, (100.0, 100.0, 90.2, 100.0))
    for mode in ("cross", "isolated"):
        session = told(case(market, **settings, margin_mode=mode), buy(A, "10"), Step(1))
        liquidation, _ = only(session)
        assert (liquidation.price, liquidation.fee) == (D(90), 0)
        assert session.exchange.account.wallet == 0


def test_14_cross_goes_on_with_the_largest_maintenance() -> None:
    market = (
        hours(A, 100.0, (100.0, 100.0, 80.0, 80.0)),
        hours(B, 100.0, 100.0),
        hours("CCCUSDT-PERP", 100.0, 100.0),
    )
    session = told(
        case(*market, fee_rate="0", balance="80", leverage=100),
        buy(B, "3"),
        sell("CCCUSDT-PERP", "4"),
        buy(A, "5"),
        Step(1),
    )
    # The default fee takes what is left, so that F is below 0 until all is closed.
    symbols = [one.symbol for one in session.exchange.liquidations]
    assert symbols == [A, "CCCUSDT-PERP", B]


def test_15_siblings_go_before_what_guards_a_position_that_is_gone() -> None:
    target = Place(A, "sell", "take_profit", "1", trigger_price="110", oco_group="g")
    session = told(
        case(hours(A, 100.0, (100.0, 111.0, 100.0, 111.0))),
        buy(A, "1"),
        Place(A, "sell", "stop_loss", "1", trigger_price="50"),
        Place(A, "sell", "stop_loss", "1", trigger_price="60", oco_group="g"),
        target,
        Place(A, "sell", "limit", "1", price="200"),
    )
    events: Any = session.ask(Step(1))
    assert [(one.id, one.reason) for one in events.closed] == [
        (3, "oco"),
        (2, "position_closed"),
        (5, "session_end"),
    ]


def test_16_reduce_only() -> None:
    session = told(case(hours(A, 100.0, (100.0, 100.0, 90.0, 95.0))), sell(A, "2"))
    stop = Place(A, "buy", "stop_loss", "2", trigger_price="110")
    for wrong in (
        replace(stop, quantity="2.00000001"),
        replace(stop, side="sell"),
        replace(stop, symbol=A, type="market", trigger_price=None, side="sell", reduce_only=True),
    ):
        assert session.ask(wrong) == Refusal("REDUCE_ONLY")
    assert len(session.exchange.orders) == 1
    session.ask(replace(stop, type="take_profit", trigger_price="90"))
    session.ask(Place(A, "buy", "limit", "1.5", price="92"))
    session.ask(Step(1))
    assert [fill.quantity for fill in session.exchange.fills] == [D(2), D("1.5"), D("0.5")]


# Lists and replacements


def state(session: Pair) -> list[tuple[int, str, str | None]]:
    return [(one.id, one.status, one.reason) for one in session.exchange.orders]


def test_a_leg_of_a_list_reduces_a_short_and_the_rest_goes_with_the_position() -> None:
    session = told(
        case(hours(A, 100.0, (100.0, 100.0, 89.0, 95.0), (95.0, 112.0, 95.0, 112.0)), fee_rate="0"),
        sell(A, "3"),
        Oco(
            Place(A, "buy", "take_profit", "2", trigger_price="90"),
            Place(A, "buy", "stop_loss", "2", trigger_price="110"),
        ),
        Oco(
            Place(A, "buy", "limit", "3", price="80", reduce_only=True),
            Place(A, "buy", "stop_loss", "3", trigger_price="115"),
        ),
    )
    # All of them only reduce: the margin of the short is all that is locked, 300 / 10.
    assert session.exchange.portfolio().locked_cash == 30
    session.ask(Step(1))
    # 2 of the short of 3 are bought back 10 lower; the other list waits for what is left.
    assert position(session, A).quantity == -1
    assert session.exchange.account.wallet == 10_020
    assert state(session)[1:] == [
        (2, "filled", None),
        (3, "cancelled", "oco"),
        (4, "pending", None),
        (5, "pending", None),
    ]
    session.ask(buy(A, "1"))  # At 95; 5 more.
    assert session.exchange.account.wallet == 10_025
    assert state(session)[3:5] == [
        (4, "cancelled", "position_closed"),
        (5, "cancelled", "position_closed"),
    ]


def test_a_leg_that_is_larger_than_what_is_left_closes_just_that() -> None:
    session = told(
        case(hours(A, 100.0, 100.0, (100.0, 110.0, 100.0, 110.0)), fee_rate="0"),
        sell(A, "3"),
        Oco(
            Place(A, "buy", "take_profit", "3", trigger_price="90"),
            Place(A, "buy", "stop_loss", "3", trigger_price="105"),
        ),
        buy(A, "2"),
        Step(2),
    )
    assert session.exchange.fills[-1].quantity == 1
    assert session.exchange.account.wallet == 9_995
    assert [reason for _, _, reason in state(session)[1:3]] == ["oco", None]


def test_a_list_of_entries_needs_the_margin_of_one_of_them() -> None:
    # Of 1000 at leverage 10, 70 at 100 take 700: both fit only since one cancels the other.
    session = told(case(hours(A, 100.0, 100.0, 100.0), fee_rate="0", balance="1000"))
    low = Place(A, "buy", "limit", "70", price="98")
    high = Place(A, "buy", "stop_loss", "70", trigger_price="102", reduce_only=False)
    assert not isinstance(session.ask(Oco(low, high)), Refusal)
    assert session.exchange.portfolio().locked_cash == 714
    # At 102 a fill of 98 takes 999.6 and loses 196 at the mark of 100; of 80, 816 and 160.
    for quantity in ("98", "84"):
        assert session.ask(Replace(quantity=quantity)) == Refusal("INSUFFICIENT_MARGIN")
    assert not isinstance(session.ask(Replace(quantity="80")), Refusal)
    assert session.exchange.portfolio().locked_cash == 816
    assert [(one.id, one.list_id) for one in session.exchange.pending] == [(1, 1), (3, 1)]


def test_a_list_of_which_one_order_is_refused_leaves_nothing() -> None:
    session = told(case(hours(A, 100.0, 100.0)), sell(A, "2"))
    stop = Place(A, "buy", "stop_loss", "2", trigger_price="110")
    target = Place(A, "buy", "take_profit", "2", trigger_price="90")
    for wrong, code in (
        (replace(target, quantity="2.00000001"), "REDUCE_ONLY"),
        (replace(target, side="sell"), "INVALID_PARAMETER"),
        (replace(target, oco_group="g"), "INVALID_PARAMETER"),
        (replace(target, type="limit", price="100", trigger_price=None), "ORDER_WOULD_MATCH"),
        (replace(stop, quantity="9999", reduce_only=False), "INSUFFICIENT_MARGIN"),
    ):
        for pair in (Oco(stop, wrong), Oco(wrong, stop)):
            assert session.ask(pair) == Refusal(code)
    assert state(session) == [(1, "filled", None)]


def test_a_replacement_that_is_refused_leaves_the_old_order() -> None:
    # At a mark of 100, 110 sold at 100.5 take 1100 and gain 55; 200 bought at 96 take 2000, gain 800.
    session = told(
        case(hours(A, 100.0, 100.0, (100.0, 100.0, 95.0, 95.0)), balance="1000", fee_rate="0.001"),
        Place(A, "sell", "limit", "90", price="100.5"),
        Place(A, "buy", "limit", "40", price="96"),
    )
    locked = session.exchange.portfolio().locked_cash
    assert session.ask(Replace(1, quantity="110")) == Refusal("INSUFFICIENT_MARGIN")
    assert session.ask(Replace(quantity="200")) == Refusal("INSUFFICIENT_MARGIN")
    assert session.ask(Replace(trigger_price="90")) == Refusal("INVALID_PARAMETER")
    assert session.exchange.portfolio().locked_cash == locked
    assert [one.id for one in session.exchange.pending] == [1, 2]
    # What the old order needed is free for the new one, which is last in time.
    session.ask(Replace(1, price="101", quantity="95"))
    assert state(session) == [
        (1, "cancelled", "replaced"),
        (2, "pending", None),
        (3, "pending", None),
    ]
    session.ask(Replace(1, price="95.5"))
    session.ask(Step(2))
    (fill,) = session.exchange.fills
    assert (fill.order_id, fill.quantity, fill.price) == (4, D(40), D("95.5"))


def test_a_reduce_only_order_is_replaced_by_one_that_is_within_the_position() -> None:
    session = told(
        case(hours(A, 100.0, (100.0, 106.0, 100.0, 106.0)), fee_rate="0"),
        sell(A, "2"),
        Oco(
            Place(A, "buy", "take_profit", "1", trigger_price="90"),
            Place(A, "buy", "stop_loss", "1", trigger_price="110"),
        ),
    )
    assert session.ask(Replace(quantity="2.5")) == Refusal("REDUCE_ONLY")
    session.ask(Replace(price="105", quantity="2"))  # The price of a stop is its trigger.
    session.ask(Step(1))
    assert state(session)[1:] == [
        (2, "cancelled", "oco"),
        (3, "cancelled", "replaced"),
        (4, "filled", None),
    ]
    assert session.exchange.account.wallet == 9_990


def test_17_what_is_locked_does_not_move_with_marks() -> None:
    market = (hours(A, 100.0, 150.0, 150.0), hours(B, 10.0, 9.0, 9.0))
    session = told(
        case(*market, fee_rate="0", leverage=3),
        SetMarginMode(B, "isolated"),
        buy(A, "10"),
        sell(B, "10"),
        Place(A, "buy", "limit", "1", price="50"),
        Place(A, "sell", "limit", "1", price="170"),
        Place(B, "sell", "limit", "1", price="20"),
    )
    for _ in range(2):
        # A: (1000 + 50) / 3. B: the wallet of 100 / 3, and the excess of 20 / 3.
        locked = D(350) + D("33.33333333") + D("6.66666667")
        assert session.exchange.portfolio().locked_cash == locked
        session.ask(Step(1))
