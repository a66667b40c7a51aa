"""Blind markets: what a disguise changes, and what it leaves as it is."""

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from candlestep.sandbox import (
    Candles,
    FundingRates,
    InvalidParameter,
    Market,
    SandboxError,
    Session,
    SessionConfig,
    format_time,
    parse_time,
)
from candlestep.sandbox.clock import DAY, HOUR, MINUTE, WEEK
from candlestep.sandbox.market.blind.disguise import BlindSettings, Disguise, Variant
from candlestep.sandbox.market.blind.draws import Draws
from candlestep.sandbox.market.blind.rounding import significant
from candlestep.sandbox.money import decimal_of
from tests.support.perpetual_markets import bars
from tests.support.real_candles import minutes as real_minutes

START = parse_time("2024-10-01")
Array = NDArray[np.float64]
FIRST = "1995-06-06T00:00:00Z 54.3784"
GOLDEN = {
    "none": {"first_open": FIRST, "1995-06": "8a211478514004b5"},
    "mirror": {"first_open": FIRST, "1995-06": "f8fbea3da53004c3"},
    "bootstrap": {"first_open": FIRST, "1995-06": "c78e61cfdb23f37c"},
}


def walk(
    symbol: str,
    seed: int = 0,
    *,
    days: int = 12,
    start: int = START,
    first: float = 60_000.0,
    gaps: Sequence[int] = (),
    places: int = 2,
) -> Candles:
    """Return hours of a random walk, without those at ``gaps``."""
    random = np.random.default_rng(seed)
    count = days * 24
    closes = np.round(first * np.exp(np.cumsum(random.normal(0, 0.01, count))), places)
    opens = np.concatenate([[first], np.round(closes[:-1] * 1.0005, places)])
    wick = np.round(first * 0.002, places)
    kept = np.setdiff1d(np.arange(count), gaps)
    return Candles(
        symbol=symbol,
        interval="1h",
        open_time=start + kept * HOUR,
        open=opens[kept],
        high=(np.maximum(opens, closes) + wick)[kept],
        low=(np.minimum(opens, closes) - wick)[kept],
        close=closes[kept],
        volume=np.round(random.uniform(1, 100, count), 3)[kept],
    )


def perpetual(seed: int = 0, days: int = 12) -> Market:
    """Return a perpetual with marks a little above it, and funding every eighth hour."""
    candles = walk("BTCUSDT-PERP", seed, days=days, gaps=range(30, 40))
    marks = Candles.restore(
        candles.arrays._replace(
            columns=candles.arrays.columns
            | {name: getattr(candles, name) * 1.001 for name in ("open", "high", "low", "close")}
        )
    )
    times = START + np.arange(days * 3) * 8 * HOUR
    random = np.random.default_rng(seed)
    rates = np.round(random.normal(0, 1e-4, len(times)), 8)
    rates[0] = 0
    return Market([candles], [marks], [FundingRates("BTCUSDT-PERP", times, rates)])


def only(market: Market) -> Candles:
    [symbol] = market.symbols
    return market.candles_of(symbol)


@given(st.integers(0, 2**53 - 1))
def test_names_times_and_prices_are_hidden_and_returns_stay(seed: int) -> None:
    symbols = ["ADAUSDT", "BTCUSDT", "ETHUSDT"]
    real = Market(
        walk(symbol, place, first=price, days=2, places=6)
        for place, (symbol, price) in enumerate(zip(symbols, (0.35, 63_000, 2_600), strict=True))
    )
    blind = real.blind(seed)
    assert blind.symbols == ("ASSET1USDT", "ASSET2USDT", "ASSET3USDT")
    (start, end), (real_start, _) = blind.span, real.span
    assert parse_time("1990-01-01") <= start < end <= parse_time("2005-01-01")
    assert (start - real_start) % WEEK == 0
    unmatched = [real.candles_of(symbol) for symbol in symbols]
    for symbol in blind.symbols:
        series = blind.candles_of(symbol)
        assert 10 <= series.open[0] < 1000
        for column in (series.open, series.high, series.low, series.close):
            assert all(
                len(decimal_of(price).normalize().as_tuple().digits) <= 6
                for price in column.tolist()
            )
        returns = np.diff(np.log(series.close))
        # A price is off by half of its sixth digit at most, 5e-6 of it, and by half a tick.
        same = [
            one
            for one in unmatched
            if np.allclose(np.diff(np.log(one.close)), returns, atol=1.5e-5)
        ]
        assert len(same) == 1
        unmatched.remove(same[0])
        quote = same[0].volume * same[0].close
        np.testing.assert_allclose(series.volume * series.close, quote, rtol=6e-4)
    assert not unmatched


def test_the_disguise_is_the_same_on_every_machine() -> None:
    """Numbers by `sha256sum`, and digests that must never change: recordings rest on them."""
    draws = Draws(7, "names")
    # printf candlestep/7/names/0 | sha256sum begins with 9f939a855d57ea61, …/1 with 7c5d7be826256590.
    assert [draws.below(2**63) for _ in range(2)] == [0x1F939A855D57EA61, 0x7C5D7BE826256590]
    prices = [60_000 + 37 * (place * place % 101) for place in range(24 * 6)]
    candles = bars("BTCUSDT", *prices, start=START, interval="1h")
    digests = {
        variant: only(Market([candles]).blind(7, variant=variant)).fingerprint(10**13)
        for variant in get_args(Variant)
    }
    assert digests == GOLDEN
    assert only(Market([candles]).blind(8)).fingerprint(10**13) != GOLDEN["none"]


def off_grid(numbers: Array, unit: float) -> float:
    """Return the mean distance of numbers from the nearest multiple of a unit, in units."""
    return float(np.abs(numbers / unit - np.rint(numbers / unit)).mean())


def test_no_grid_of_ticks_or_lots_tells_the_digits_of_a_price() -> None:
    """Numbers on no grid are a quarter of a unit off, on average; rounded ones much less."""
    real = walk("ETHUSDT", 7, days=40, first=2600.0)
    market = Market([real])
    disguise = Disguise.draw(BlindSettings.parse(5), market.symbols, market.span)
    blind = only(market.disguised(disguise))
    factor = float(market.scales(disguise)["ETHUSDT"].factor)
    tick, lot = 0.01 * factor, 0.001 / factor
    assert off_grid(significant(real.close * factor, 6), tick) < 0.18, "six digits do not hide it"
    assert off_grid(significant(real.volume / factor, 8), lot) < 0.01
    assert off_grid(blind.close, tick) == pytest.approx(0.25, abs=0.03)
    assert off_grid(blind.volume, lot) == pytest.approx(0.25, abs=0.03)
    # Less than half a tick: the order of all prices stays, and equal ones stay equal.
    order = np.argsort(real.close, kind="stable")
    assert (np.diff(blind.close[order]) >= 0).all()
    assert np.abs(blind.close / factor - real.close).max() < 0.005 + 5e-6 * real.close.max()
    assert np.abs(blind.volume * factor - real.volume).max() < 0.0005 + 5e-8 * real.volume.max()


def test_each_part_can_be_left_as_it_is() -> None:
    real = Market([walk("BTCUSDT"), walk("ETHBTC", 1, first=0.04, places=6)])
    same = real.blind(3, names=False, times=False, prices=False)
    assert same.symbols == real.symbols
    for symbol in real.symbols:
        assert same.candles_of(symbol).fingerprint(10**13) == real.candles_of(symbol).fingerprint(
            10**13
        )
    assert real.blind(3, times=False).span == real.span
    assert set(real.blind(3, times=False, prices=False).symbols) in (
        {"ASSET1USDT", "ASSET2BTC"},
        {"ASSET2USDT", "ASSET1BTC"},
    )


def test_spot_and_perpetual_of_a_pair_keep_their_number_and_their_basis() -> None:
    spot = walk("BTCUSDT", places=1)
    perp = Candles.restore(spot.arrays._replace(symbol="BTCUSDT-PERP"))
    blind = Market([spot, perp, walk("ETHUSDT", 1)]).blind(5)
    number = next(name[5] for name in blind.symbols if name.endswith("-PERP"))
    one, two = (blind.candles_of(f"ASSET{number}USDT{end}") for end in ("", "-PERP"))
    assert np.array_equal(one.close, two.close)


def test_names_that_tell_no_currency_and_long_markets_are_disguised_too() -> None:
    assert Market([bars("walk_1", 5.0), bars("X", 7.0)]).blind(1).symbols == ("ASSET1", "ASSET2")
    long = Market([bars("BTCUSDT", 5.0), bars("ETHUSDT", 7.0, start=20 * 365 * DAY)]).blind(1)
    assert "1990-01-01" <= format_time(long.span[0]) < "1990-01-08"


# Six decimals or fewer of a price, and nine digits of a factor, are fifteen together.
Orders = list[tuple[str, str, int, int, int]]
ORDERS = st.lists(
    st.tuples(
        st.sampled_from(["buy", "sell"]),
        st.sampled_from(["market", "limit", "stop_loss", "take_profit"]),
        st.integers(1, 400),
        st.integers(-300, 300),
        st.integers(1, 10),
    ),
    min_size=1,
    max_size=8,
)


@given(st.integers(0, 10**6), ORDERS)
def test_exact_prices_give_the_same_fills(seed: int, orders: Orders) -> None:
    real = Market([walk("BTCUSDT", 3, days=4, first=640.0)])
    blind = real.blind(seed, prices="exact")
    [name] = blind.symbols
    shift = blind.span[0] - real.span[0]
    factor = decimal_of(float(blind.candles_of(name).open[0])) / Decimal(640)
    assert traded(real, Decimal(1), 0, orders) == traded(blind, factor, shift, orders)


def traded(market: Market, scale: Decimal, moved: int, orders: Orders) -> list[Any]:
    """Return what orders did on a market, with prices, quantities and times of the open one."""
    [symbol] = market.symbols
    config = SessionConfig(
        start_time=START + 2 * HOUR + moved,
        end_time=market.span[1],
        starting_balance=100_000,
        candle_interval="1h",
        slippage={"model": "fixed_bps", "bps": 5},
    )
    session = Session(config, market)
    done: list[Any] = []
    for side, kind, amount, distance, steps in orders:
        trigger = (Decimal(640) + distance) * scale
        quantity = Decimal(amount) * Decimal("0.128") / scale
        given = {"limit": "price", "market": ""}.get(kind, "trigger_price")
        prices: dict[str, Any] = {given: trigger} if given else {}
        try:
            session.place_order(symbol=symbol, side=side, type=kind, quantity=quantity, **prices)
        except SandboxError as refusal:
            done.append(type(refusal))
        session.step(steps)
    for fill in session.fills:
        done.append((fill.side, fill.quantity * scale, fill.price / scale, fill.time - moved))
        done.append((fill.fee, fill.realized_pnl))
    return [*done, session.portfolio().total_equity]


def test_slippage_is_the_same_for_the_same_share_of_volume() -> None:
    real = Market([walk("BTCUSDT", 3, days=4, first=640.0)])
    slippages = []
    for market in (real, real.blind(1, prices="exact"), real.blind(1)):
        [symbol] = market.symbols
        start, end = market.span
        config = SessionConfig(start_time=start + DAY, end_time=end, candle_interval="1h")
        session = Session(config, market)
        scale = market.candles_of(symbol).open[0] / 640
        session.place_order(symbol=symbol, side="buy", quantity=float(2 / scale))
        [fill] = session.fills
        slippages.append(float(fill.slippage))
    assert slippages[0] > 0.001
    assert slippages[1] == pytest.approx(slippages[0], rel=1e-9)
    assert slippages[2] == pytest.approx(slippages[0], rel=1e-5)


def test_the_mirror_turns_every_return_around() -> None:
    real = Market([walk("BTCUSDT", 4)])
    mirrored = real.blind(9, variant="mirror")
    was, now = only(real), only(mirrored)
    assert 10 <= now.open[0] < 1000
    for name, opposite in (("open", "open"), ("close", "close"), ("high", "low"), ("low", "high")):
        there = np.log(getattr(was, opposite) / was.open[0])
        here = np.log(getattr(now, name) / now.open[0])
        np.testing.assert_allclose(here, -there, atol=1e-5)
    # Lots of a thousandth, of volumes of one and more.
    np.testing.assert_allclose(now.volume * now.close, was.volume * was.close, rtol=6e-4)


def test_a_mirrored_rise_is_a_fall_by_hand() -> None:
    """60,000 to 66,000 becomes 60,000 to 54,545.5; a short of it makes less than the long made."""
    market = Market([bars("BTCUSDT", (60_000, 66_000, 58_000, 66_000))])
    candles = only(market.blind(0, prices=False, variant="mirror"))
    row = [float(getattr(candles, name)[0]) for name in ("open", "high", "low", "close")]
    assert row == [60_000, 62_069.0, 54_545.5, 54_545.5]
    assert candles.volume[0] == 1209.999  # 1000 * 66000 / 54545.5, to eight digits.


def test_marks_go_along_and_the_mirror_receives_what_was_paid() -> None:
    real = perpetual()
    rates = real.funding_of("BTCUSDT-PERP")
    for variant, sign in (("none", 1), ("mirror", -1)):
        blind = real.blind(2, variant=variant)  # type: ignore[arg-type]
        [symbol] = blind.symbols
        marks, candles, funding = (
            blind.marks_of(symbol),
            blind.candles_of(symbol),
            blind.funding_of(symbol),
        )
        assert marks is not None
        assert funding is not None
        assert rates is not None
        np.testing.assert_allclose(marks.close / candles.close, 1.001**sign, atol=1.1e-5)
        assert np.array_equal(funding.rate, sign * rates.rate)
        assert not np.signbit(funding.rate[0])
        assert np.array_equal(funding.time - blind.span[0], rates.time - real.span[0])


def drawn_by_hand(real: Market, symbol: str, blind: Market) -> list[tuple[int, float, float]]:
    """Return the open time, the open and the close of each row, by the rule of the bootstrap.

    An independent reading of it: day by day, the level carried along.
    """
    candles = real.candles_of(symbol)
    start, end = real.span
    whole = range(-(-start // DAY), end // DAY)
    draws, sources = Draws(6, "bootstrap"), list[int]()
    for _ in range(start // DAY, end // DAY + 1):
        if not sources or draws.below(5) == 0:
            sources.append(draws.below(len(whole)))
        else:
            sources.append((sources[-1] + 1) % len(whole))
    rows, level = [], 1.0
    for day, source in enumerate(sources, start // DAY):
        inside = [k for k in range(len(candles)) if candles.open_time[k] // DAY == whole[source]]
        before = [k for k in range(len(candles)) if candles.open_time[k] // DAY < whole[source]]
        anchor = candles.close[before[-1]] if before else candles.open[0]
        for k in inside:
            time = int(candles.open_time[k]) + (day - whole[source]) * DAY
            rows.append((time, level * candles.open[k] / anchor, level * candles.close[k] / anchor))
        if inside:
            level *= candles.close[inside[-1]] / anchor
    rows = [row for row in rows if row[0] >= start and row[0] + HOUR <= end]
    scale = only(blind).open[0] / rows[0][1]
    moved = only(blind).open_time[0] - rows[0][0]
    return [(time + moved, opened * scale, closed * scale) for time, opened, closed in rows]


def test_the_bootstrap_draws_whole_days_that_go_on_where_the_last_one_ended() -> None:
    # Parts of a day at both ends, and a hole of 30 hours.
    candles = walk("BTCUSDT", 5, start=START + 7 * HOUR, gaps=range(100, 130))
    real = Market([candles])
    blind = real.blind(6, variant="bootstrap")
    series = only(blind)
    expected = drawn_by_hand(real, "BTCUSDT", blind)
    assert series.open_time.tolist() == [time for time, _, _ in expected]
    np.testing.assert_allclose(series.open, [opened for _, opened, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(series.close, [closed for _, _, closed in expected], rtol=1e-5)
    assert 10 <= series.open[0] < 1000
    assert (series.low <= np.minimum(series.open, series.close)).all()
    assert (series.high >= np.maximum(series.open, series.close)).all()


def test_one_draw_of_days_serves_all_symbols_marks_and_funding() -> None:
    base = perpetual()
    one = base.candles_of("BTCUSDT-PERP")
    other = Candles.restore(one.arrays._replace(symbol="ETHUSDT-PERP"))
    marks, rates = base.marks_of("BTCUSDT-PERP"), base.funding_of("BTCUSDT-PERP")
    assert marks is not None
    assert rates is not None
    blind = Market([one, other], [marks], [rates]).blind(6, variant="bootstrap")
    first, second = (blind.candles_of(symbol) for symbol in blind.symbols)
    assert np.array_equal(first.open_time, second.open_time)
    np.testing.assert_allclose(
        np.diff(np.log(first.close)), np.diff(np.log(second.close)), atol=2e-5
    )
    [symbol] = [symbol for symbol in blind.symbols if blind.marks_of(symbol)]
    shown, funding = blind.marks_of(symbol), blind.funding_of(symbol)
    assert shown is not None
    assert funding is not None
    np.testing.assert_allclose(shown.close / blind.candles_of(symbol).close, 1.001, atol=1.1e-5)
    assert set(funding.rate.tolist()) <= set(rates.rate.tolist())
    # The day of each rate is that of the candles: its first row is the rate of the day's midnight.
    by_rate = dict(zip(rates.rate.tolist(), rates.time.tolist(), strict=True))
    assert all(
        (time - by_rate[rate]) % DAY == 0
        for time, rate in zip(funding.time.tolist(), funding.rate.tolist(), strict=True)
    )
    assert (np.diff(funding.time) == 8 * HOUR).all()


def test_a_market_that_cannot_be_drawn_from_says_why() -> None:
    hours = Market([bars("BTCUSDT", *[5.0] * 30, start=START + HOUR, interval="1h")])
    with pytest.raises(
        InvalidParameter, match="bootstrap draws whole UTC days, and the market has"
    ):
        hours.blind(0, variant="bootstrap")
    weeks = Market([bars("BTCUSDT", 5.0, 6.0, start=4 * DAY, interval="1w")])
    with pytest.raises(InvalidParameter, match="BTCUSDT has candles that lie in two"):
        weeks.blind(0, variant="bootstrap")
    crash = Market([bars("LUNAUSDT", 1e9, 1e-9)])
    with pytest.raises(InvalidParameter, match="ASSET1USDT prices beyond those of any market"):
        crash.blind(0, variant="mirror")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 2**53}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 1, "names": "yes"}, "names"),
        ({"seed": 1, "times": 1}, "times"),
        ({"seed": 1, "prices": "rounded"}, "prices"),
        ({"seed": 1, "variant": "reverse"}, "variant"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        perpetual(days=1).blind(**settings)
    assert refusal.value.details["field"] == field


@given(st.floats(1e-30, 1e30), st.integers(1, 8))
def test_rounding_to_significant_digits_is_that_of_decimals(value: float, digits: int) -> None:
    [rounded] = significant(np.array([value]), digits).tolist()
    written = Decimal(repr(rounded)).normalize()
    assert len(written.as_tuple().digits) <= digits
    nearest = Context(prec=digits, rounding=ROUND_HALF_EVEN).create_decimal_from_float(value)
    unit = Decimal(1).scaleb(nearest.adjusted() - digits + 1)
    # Where a value lies half way, the float that is divided may fall on either side.
    assert abs(written - Decimal(value)) <= unit * (Decimal("0.5") + Decimal(10) ** (digits - 15))
    assert math.isclose(rounded, value, rel_tol=10.0 ** (1 - digits))


def test_a_part_of_a_market_has_what_opens_and_is_complete_within_it() -> None:
    market = perpetual(days=2)
    part = market.between(START + HOUR, START + 9 * HOUR)
    assert part is not None
    assert part.span == (START + HOUR, START + 9 * HOUR)
    rates, marks = part.funding_of("BTCUSDT-PERP"), part.marks_of("BTCUSDT-PERP")
    assert rates is not None
    assert rates.time.tolist() == [START + 8 * HOUR]
    assert marks is not None
    assert len(marks) == 8
    assert only(part).first_open == (START + HOUR, only(part).open[0])
    assert market.between(START + MINUTE, START + HOUR) is None


@given(st.integers(0, 10**6), st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_rounded_prices_change_equity_by_no_more_than_they_are_rounded(
    seed: int, amounts: list[int]
) -> None:
    """The bound: each trade, and what is held at the end, by half a tick and half a sixth digit."""
    real = Market([walk("BTCUSDT", 3, days=4, first=640.0)])
    disguise = Disguise.draw(BlindSettings.parse(seed), real.symbols, real.span)
    factor = float(real.scales(disguise)["BTCUSDT"].factor)
    equities, turnovers = [], []
    for market, scale in ((real, 1.0), (real.disguised(disguise), factor)):
        [symbol] = market.symbols
        start, end = market.span
        config = SessionConfig(
            start_time=start + 2 * HOUR,
            end_time=end,
            starting_balance=100_000,
            candle_interval="1h",
            slippage={"model": "none"},
        )
        session = Session(config, market)
        for place, amount in enumerate(amounts):
            held = session.account.holding(symbol).quantity
            if place % 2 and held:
                session.place_order(symbol=symbol, side="sell", quantity=held)
            else:
                session.place_order(symbol=symbol, side="buy", quantity=amount / 10 / scale)
            session.step(amount % 7 + 1)
        equities.append(float(session.portfolio().total_equity))
        worth = float(session.account.holding(symbol).quantity * session.price(symbol))
        turnovers.append(sum(float(fill.quote_amount) for fill in session.fills) + worth)
    least = only(real).low.min()
    share = 5e-6 + 0.005 / least + 1e-8 / (0.1 / factor)
    cents = 1e-8 * 4 * (len(amounts) + 1)
    assert abs(equities[0] - equities[1]) <= max(turnovers) * share * 1.001 + cents


def test_an_agent_that_knows_october_2024_by_heart_makes_money_open_and_by_chance_blind() -> None:
    """It takes the day that it knows under the name, or else the day of the nearest price."""
    real = Market([real_minutes("BTCUSDT", "2024-10"), real_minutes("ETHUSDT", "2024-10")])
    start, end = real.span
    days = range(start, end - DAY, DAY)
    memory = {
        (symbol, day): (float(real.price(symbol, day)), real.price(symbol, day + DAY))
        for symbol in real.symbols
        for day in days
    }

    def returned(market: Market) -> float:
        first, last = market.span
        config = SessionConfig(start_time=first, end_time=last, candle_interval="1d")
        session = Session(config, market)
        while session.status == "running":
            for symbol in market.symbols:
                price = float(session.price(symbol))
                known = memory.get((symbol, session.time)) or min(
                    memory.values(), key=lambda one: abs(one[0] - price)
                )
                held = session.account.holding(symbol).quantity
                if known[1] > known[0] and not held:
                    session.place_order(symbol=symbol, side="buy", quantity=round(4000 / price, 6))
                elif known[1] <= known[0] and held:
                    session.place_order(symbol=symbol, side="sell", quantity=held)
            session.step()
        return float(session.results().roi_pct)

    opened = returned(real)
    blind = [returned(real.blind(seed)) for seed in range(5)]
    assert opened > 15
    assert max(blind) < opened / 2
    assert abs(sum(blind) / len(blind)) < opened / 3
