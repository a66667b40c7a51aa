"""Accounts of a batch are those of sessions that trade by the same weights, to the last digit."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from candlestep.sandbox import Candles, InvalidParameter, Market, Session, SessionConfig
from candlestep.sandbox.clock import Clock
from candlestep.sandbox.envs.trader import Trader
from candlestep.sandbox.exchange.batch.batch import Batch, OrderRules
from candlestep.sandbox.exchange.batch.book import Bracket
from candlestep.sandbox.exchange.batch.exact import Integers
from tests.support.tapes import MINUTE, START, tape, tapes

ACCOUNTS = 5
STEPS = 12
FIRST = 5
BRACKETS = (Bracket(1000, 3000), Bracket(0, 1), Bracket(500_000, 0), Bracket(20_000, 3_000_000))
NO_RULES = OrderRules()


def units(amount: Decimal) -> int:
    return int(amount.scaleb(8))


class Race:
    """A batch and as many sessions, which do the same; each comparison is of whole numbers."""

    def __init__(
        self,
        market: Market,
        config: dict[str, Any],
        rules: OrderRules = NO_RULES,
        brackets: Sequence[Bracket] = (),
        *,
        interval: int = MINUTE,
    ) -> None:
        first, last = market.span
        start = -(-first // interval) * interval + interval
        self.clock = clock = Clock(start, interval, (last - start) // interval)
        seconds = interval // 1000
        whole = SessionConfig(
            start_time=start, end_time=clock.end, candle_interval=seconds, allow_gaps=True, **config
        )
        self.symbols = market.symbols
        self.brackets = brackets
        self.batch = Batch(
            market,
            self.symbols,
            ACCOUNTS,
            clock=clock,
            starting_balance=whole.starting_balance,
            costs=whole.costs,
            rules=rules,
            brackets=brackets,
        )
        begins = np.minimum(FIRST + 3 * np.arange(ACCOUNTS), clock.total_steps - STEPS)
        self.batch.begin(np.arange(ACCOUNTS), begins)
        self.traders = [
            Trader(
                Session(
                    SessionConfig(
                        start_time=clock.time(begin),
                        end_time=clock.time(begin + STEPS),
                        candle_interval=seconds,
                        allow_gaps=True,
                        **config,
                    ),
                    market,
                ),
                self.symbols,
                rules,
            )
            for begin in begins.tolist()
        ]
        self.compare()

    def run(self, seed: int, *, is_chosen: bool = False) -> None:
        """Trade to random weights, with brackets chosen at random or the first of them."""
        random = np.random.default_rng(seed)
        shape = (len(self.symbols), ACCOUNTS)
        for _ in range(STEPS):
            weights = random.choice([0, 1, 300_000, 500_000, 999_999, 1_000_000], size=shape)
            self.trade(weights, random.integers(0, len(BRACKETS), shape) if is_chosen else None)
            self.advance()

    def trade(self, weights: Integers, brackets: Integers | None = None) -> None:
        """Trade to weights (symbols by accounts) with numbers of brackets."""
        self.batch.trade(weights, brackets)
        for account, trader in enumerate(self.traders):
            if not self.batch.overflow[account]:
                chosen = [
                    self.brackets[0 if brackets is None else brackets[number, account]]
                    for number in range(len(self.symbols) if self.brackets else 0)
                ]
                trader.trade(weights[:, account].tolist(), chosen)
        self.compare()

    def advance(self) -> None:
        """Let a step pass, after which holdings are valued too."""
        self.batch.advance()
        for account, trader in enumerate(self.traders):
            trader.advance()
            if not self.batch.overflow[account]:
                assert self.batch.equity[account] == units(trader.portfolio.total_equity)
        self.compare()

    def compare(self) -> None:
        batch = self.batch
        for account, trader in enumerate(self.traders):
            if batch.overflow[account]:
                continue
            session, ledger = trader.session, trader.session.account
            assert batch.cash[account] == units(ledger.available_cash)
            assert ledger.locked_cash == 0
            assert batch.realized[account] == units(ledger.realized_pnl)
            assert batch.fills[account] == len(session.fills)
            fees = sum((fill.fee for fill in session.fills), Decimal(0))
            assert batch.fees[account] == units(fees)
            for number, symbol in enumerate(self.symbols):
                holding = ledger.holding(symbol)
                assert batch.quantity[number, account] == units(holding.quantity)
                assert batch.cost_basis[number, account] == units(holding.cost_basis)
                assert batch.weight[number, account] == trader.weights[number]


SLIPPAGE: list[dict[str, Any]] = [
    {"model": "none"},
    {"model": "fixed_bps", "bps": 5},
    {"model": "fixed_bps", "bps": "2.50000001"},
    {"model": "volume"},
]
COSTS = st.fixed_dictionaries(
    {
        "slippage": st.sampled_from(SLIPPAGE),
        "fee_rate": st.sampled_from(["0.001", "0", "0.00075", "0.0123456789", "0.3"]),
        # The last ones outgrow int64 at some prices, which is flagged.
        "starting_balance": st.sampled_from([1, "99.12345678", 100, 123_457, 1_000_000_000]),
    }
)
RULES = st.builds(OrderRules, st.booleans(), st.sampled_from([0, 0, 1000, 200_000]))
SEEDS = st.integers(0, 2**32)
GUARDS = st.sampled_from(["none", "first", "chosen"])
FAST = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def race(
    market: Market,
    costs: dict[str, Any],
    rules: OrderRules,
    seed: int,
    guards: str,
    interval: int = MINUTE,
) -> None:
    brackets = () if guards == "none" else BRACKETS
    Race(market, costs, rules, brackets, interval=interval).run(seed, is_chosen=guards == "chosen")


@given(tapes(), COSTS, RULES, SEEDS, GUARDS)
@FAST
def test_one_symbol(
    market: Market, costs: dict[str, Any], rules: OrderRules, seed: int, guards: str
) -> None:
    race(market, costs, rules, seed, guards)


@given(tapes(("AUSDT", "BUSDT", "CUSDT")), COSTS, RULES, SEEDS, GUARDS)
@FAST
def test_several_symbols(
    market: Market, costs: dict[str, Any], rules: OrderRules, seed: int, guards: str
) -> None:
    race(market, costs, rules, seed, guards)


@given(tapes(("AUSDT", "BUSDT"), candles=120), COSTS, SEEDS, GUARDS)
@FAST
def test_several_candles_a_step(
    market: Market, costs: dict[str, Any], seed: int, guards: str
) -> None:
    race(market, costs, NO_RULES, seed, guards, interval=5 * MINUTE)


@given(SEEDS, st.sampled_from(SLIPPAGE), st.integers(0, 3))
@FAST
def test_near_the_bounds(seed: int, slippage: dict[str, Any], spare: int) -> None:
    """Coins at 1e-8 that a balance of 100 buys 10 ** 10 of: quantities of 60 bits."""
    market = Market([tape(seed, level=10.0 ** (spare - 8), digits=10, volatility=0.05)])
    config = {"slippage": slippage, "starting_balance": 60}
    race(market, config, NO_RULES, seed, "first")


@given(SEEDS, GUARDS)
@FAST
def test_fees_by_a_venues_schedule(seed: int, guards: str) -> None:
    schedule = [
        {"from": START, "maker": "0", "taker": "0.001"},
        {"from": START + 12 * MINUTE, "maker": "0.1", "taker": "0.00045"},
        {"from": START + 20 * MINUTE, "taker": "0.002", "maker": "0", "symbols": ["BUSDT"]},
    ]
    market = Market([tape(seed, symbol=symbol) for symbol in ("AUSDT", "BUSDT")])
    config = {"fee_model": "match_exchange", "fee_schedule": schedule, "slippage": SLIPPAGE[1]}
    race(market, config, NO_RULES, seed, guards)


def one_candle_a_minute(prices: Sequence[tuple[float, float, float, float]]) -> Market:
    opens, highs, lows, closes = zip(*prices, strict=True)
    return Market(
        [
            Candles(
                symbol="BTCUSDT",
                interval="1m",
                open_time=START + MINUTE * np.arange(len(prices)),
                open=opens,
                high=highs,
                low=lows,
                close=closes,
            )
        ]
    )


FLAT = (100.0, 100.0, 100.0, 100.0)


def guarded(candle: tuple[float, float, float, float]) -> Batch:
    """Buy for everything at 100, with a stop at 98 and a target at 103; then comes the candle."""
    market = one_candle_a_minute([FLAT, FLAT, candle, FLAT])
    costs = SessionConfig(
        start_time=START, end_time=START + 4 * MINUTE, fee_rate=0, slippage={"model": "none"}
    ).costs
    batch = Batch(
        market,
        ["BTCUSDT"],
        1,
        clock=Clock(START + MINUTE, MINUTE, 3),
        starting_balance=Decimal(100),
        costs=costs,
        brackets=[Bracket(20_000, 30_000)],
    )
    batch.begin(np.array([0]), np.array([1]))
    batch.trade(np.array([[1_000_000]]))
    batch.advance()
    return batch


@pytest.mark.parametrize(
    ("candle", "cash"),
    [
        ((100, 102.99, 98.01, 101), 0),  # neither is reached
        ((100, 103, 98.5, 102), 103),  # the target is
        ((100, 101, 98, 99), 98),  # the stop is
        ((100, 104, 97, 99), 98),  # both: the low is nearer
        ((101.5, 104, 97, 99), 103),  # both: the high is nearer
        ((97, 104, 96, 99), 97),  # the open is beyond the stop
        ((105, 106, 90, 99), 105),  # the open is beyond the target
        ((100.5, 104, 97, 99), 98),  # both as near: the low comes first
    ],
)
def test_what_a_candle_does_to_a_guarded_position(
    candle: tuple[float, float, float, float], cash: float
) -> None:
    batch = guarded(candle)
    assert batch.cash[0] == cash * 10**8
    assert batch.weight[0, 0] == (0 if cash else 1_000_000)
    assert batch.fills[0] == (2 if cash else 1)


def test_amounts_worked_by_hand() -> None:
    """Half of 10,000 at 100.05 with a fee of 0.1 % on top.

    50 coins would cost 5,002.50 and 5.0025; 50 * 5,000 / 5,007.5025 are 49.92508740, for
    4,995.00499437 and 4.99500499.
    """
    market = one_candle_a_minute([FLAT] * 4)
    config = {"slippage": {"model": "fixed_bps", "bps": 5}, "fee_rate": "0.001"}
    costs = SessionConfig(start_time=START, end_time=START + MINUTE, **config).costs  # type: ignore[arg-type]
    clock = Clock(START + MINUTE, MINUTE, 3)
    batch = Batch(
        market, ["BTCUSDT"], 1, clock=clock, starting_balance=Decimal(10_000), costs=costs
    )
    batch.begin(np.array([0]), np.array([0]))
    batch.trade(np.array([[500_000]]))
    bought, paid = 49_92508740, 4_999_99999936
    assert batch.quantity[0, 0] == bought
    assert batch.cost_basis[0, 0] == paid
    assert batch.fees[0] == 4_99500499
    batch.advance()
    assert batch.value[0, 0] == bought * 100
    assert batch.equity[0] == 10_000 * 10**8 - paid + bought * 100


def test_an_account_beyond_int64_is_flagged_and_keeps_its_value() -> None:
    market = one_candle_a_minute([(1e-8,) * 4, (1e-8,) * 4, (1.0,) * 4, (1.0,) * 4])
    costs = SessionConfig(start_time=START, end_time=START + MINUTE).costs
    batch = Batch(
        market,
        ["BTCUSDT"],
        2,
        clock=Clock(START + MINUTE, MINUTE, 3),
        starting_balance=Decimal(100),
        costs=costs,
    )
    batch.begin(np.arange(2), np.array([1, 1]), balances=np.array([90 * 10**8, 10**12]))
    batch.trade(np.array([[1_000_000, 1_000_000]]))
    assert batch.overflow.tolist() == [False, True], "10,000 would buy 10 ** 12 coins"
    assert batch.quantity[0, 1] == 0
    equity = batch.cash + batch.value[0]
    batch.advance()
    assert batch.overflow.tolist() == [True, True], "the price has grown by a factor of 10 ** 8"
    assert batch.equity[0] == equity[0]
    batch.trade(np.array([[0, 0]]))
    assert batch.fills.tolist() == [1, 0]
    batch.begin(np.array([0]), np.array([2]))
    assert batch.overflow.tolist() == [False, True]


def test_accounts_may_have_costs_and_balances_of_their_own() -> None:
    market = Market([tape(3, level=50_000.0)])
    costs = SessionConfig(
        start_time=START, end_time=START + MINUTE, slippage={"model": "fixed_bps", "bps": 1}
    ).costs
    clock = Clock(START + MINUTE, MINUTE, 50)
    batch = Batch(market, ["BTCUSDT"], 3, clock=clock, starting_balance=Decimal(1), costs=costs)
    fees, slippages = np.array([0, 1000, 250]), np.array([500, 0, 123])
    balances = np.array([10**12, 10**11, 5 * 10**11])
    batch.begin(np.arange(3), np.full(3, 9), balances=balances, fee_rates=fees, slippages=slippages)
    traders = []
    for fee, slippage, balance in zip(
        fees.tolist(), slippages.tolist(), balances.tolist(), strict=True
    ):
        config = SessionConfig(
            start_time=clock.time(9),
            end_time=clock.time(20),
            starting_balance=Decimal(balance).scaleb(-8),
            fee_rate=Decimal(fee).scaleb(-6),
            slippage={"model": "fixed_bps", "bps": Decimal(slippage).scaleb(-2)},
        )
        traders.append(Trader(Session(config, market), ["BTCUSDT"], NO_RULES))
    for weight in (300_000, 900_000, 100_000, 0):
        batch.trade(np.full((1, 3), weight))
        batch.advance()
        for trader in traders:
            trader.trade([weight])
            trader.advance()
        equities = [units(trader.portfolio.total_equity) for trader in traders]
        assert batch.equity.tolist() == equities


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"fee_model": "tiered_maker_taker"}, "fee_model"),
        ({"starting_balance": 10**10}, "starting_balance"),
    ],
)
def test_what_many_accounts_cannot_do_is_refused_by_name(
    change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidParameter) as refused:
        Race(Market([tape(1)]), change)
    assert refused.value.details["field"] == field


def test_candles_that_do_not_fit_the_steps_are_refused_by_name() -> None:
    minutes, hours = tape(1), tape(1, symbol="ETHUSDT", interval=60 * MINUTE)
    merged = Market([minutes, tape(1, 30, interval=5 * MINUTE)])
    with pytest.raises(InvalidParameter, match=r"market: .* candles of 1m and 5m"):
        Race(merged, {})
    with pytest.raises(InvalidParameter, match=r"interval: 1m cannot be made of the 1h candles"):
        Race(Market([minutes, hours]), {})
    arrays = tape(1).arrays
    odd = Candles(
        symbol="BTCUSDT",
        interval="5m",
        open_time=START + MINUTE * np.array([0, 5, 12]),
        **{name: arrays.columns[name][:3] for name in ("open", "high", "low", "close")},
    )
    with pytest.raises(InvalidParameter, match="complete between two steps of 5m"):
        Race(Market([odd]), {}, interval=5 * MINUTE)


def test_prices_that_int64_does_not_hold_are_refused_by_name() -> None:
    precise = Market([tape(1, level=1e9, digits=16)])
    with pytest.raises(InvalidParameter, match="more digits than int64 holds"):
        Race(precise, {})
    with pytest.raises(InvalidParameter, match=r"prices of 10,000,000,000 or more"):
        Race(Market([tape(1, level=2e10)]), {})
