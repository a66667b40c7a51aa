"""The arguments of environments, checked once for all of them."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict, get_args

import msgspec

from candlestep.sandbox.clock import Clock, parse_interval
from candlestep.sandbox.config import SessionConfig
from candlestep.sandbox.envs.features import RETURNS, Constants, Feature
from candlestep.sandbox.envs.rewards import Reward, Rewards
from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.exchange.batch.batch import OrderRules
from candlestep.sandbox.exchange.batch.book import Bracket
from candlestep.sandbox.exchange.batch.guards import MILLION
from candlestep.sandbox.exchange.batch.tape import require_on_grid
from candlestep.sandbox.exchange.margin.settings import parse_leverage
from candlestep.sandbox.exchange.orders import Choice, parse_choice
from candlestep.sandbox.exchange.risk import RiskProfile
from candlestep.sandbox.market.blind.disguise import BlindSettings
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.market.symbols import is_perpetual
from candlestep.sandbox.money import MARKET, parse_count, parse_number, python_number

MarketSource = Market | Callable[[], Market]
SplitName = Literal["all", "train", "validation", "test"]
Start = Literal["random", "first", "sequential"]

_SPLITS: tuple[SplitName, ...] = get_args(SplitName)
_STARTS: tuple[Start, ...] = get_args(Start)
_MOST_TAKE_PROFIT = 10 * MILLION
_MARGIN = (
    "leverage",
    "margin_mode",
    "funding",
    "funding_rate_default",
    "mark",
    "liquidation",
    "margin_tiers",
)
_COSTS = (
    "starting_balance",
    "fee_rate",
    "fee_model",
    "fee_bps",
    "fee_schedule",
    "slippage",
    "risk",
)


class Options(TypedDict, total=False):
    """The arguments that all environments take, besides their market; all can be pickled."""

    symbol: str | Sequence[str]
    """One symbol, or several; by default that of the market, if it has one."""
    interval: str | int
    """Length of a step, and of the candles that are observed: ``"1m"``."""
    window: int
    """Number of candles observed: 32."""
    features: Literal["returns"] | Sequence[Feature]
    """Columns observed of each candle: ``"returns"``, five columns; see ``features.NAMED``."""
    standardize: bool | Constants
    """Standardise features by constants of the train split, or by ``feature_constants``: False."""
    account: bool
    """Observe the account too: True."""
    observation_shape: Literal["flat", "matrix"]
    """``"flat"``, one vector, or ``"matrix"``, a Dict of ``window`` and ``account``."""
    actions: Literal["discrete", "continuous"]
    """``"discrete"``: an index into ``weights``. ``"continuous"``: the weight itself."""
    weights: Sequence[float]
    """Shares of equity that discrete actions choose from: (0.0, 0.5, 1.0). Of perpetuals also
    negative ones, down to minus the leverage."""
    rebalance: Literal["change", "always"]
    """Trade when another weight is asked for, or at every step: ``"change"``."""
    min_trade: int
    """Least order, in millionths of equity: 0. Selling everything is exempt."""
    stop_loss: float | None
    """Distance of the stop below the fill price, a fraction such as 0.02."""
    take_profit: float | None
    """Distance of the target above the fill price, a fraction."""
    brackets: Sequence[tuple[float | None, float | None]] | None
    """Pairs of ``stop_loss`` and ``take_profit`` that each action chooses from."""
    reward: Reward
    """See ``rewards.Rewards``: ``"log_return"``."""
    reward_scale: float
    """Factor of rewards: 1.0."""
    episode_steps: int
    """Length of an episode: 1,440."""
    start: Start
    """Start of episodes: ``"random"``, ``"first"``, or ``"sequential"``, side by side."""
    sequence: tuple[int, int]
    """First episode and stride of sequential starts: (0, 1)."""
    split: SplitName
    """The part of the candles in which episodes lie: ``"all"``."""
    splits: tuple[float, float, float]
    """Shares of the steps for train, validation and test: (0.7, 0.15, 0.15)."""
    embargo: int | None
    """Steps left out between two splits, at least ``window``, the default."""
    starting_balance: Any
    fee_rate: Any
    fee_model: Any
    fee_bps: Any
    fee_schedule: Any
    slippage: Mapping[str, Any]
    """These six are arguments of ``SessionConfig``."""
    risk: RiskProfile | None
    """Limits on buys, of single environments only; a refused buy is skipped."""
    leverage: int
    """The highest weight on perpetuals, a whole number by default 1; the lowest is its negative."""
    margin_mode: Any
    funding: Any
    funding_rate_default: Any
    mark: Any
    liquidation: Any
    margin_tiers: Any
    """These six are arguments of ``SessionConfig`` for perpetuals."""
    randomize: Mapping[str, tuple[float, float]]
    """Ranges of ``fee_rate``, ``slippage_bps`` and ``starting_balance``, drawn at each reset."""
    blind: bool | Mapping[str, Any]
    """Disguise the market anew at each reset, of single environments only: False. True, or the
    arguments of ``Market.blind`` without the seed."""
    ruin: float
    """Share of the starting balance below which an episode terminates: 0.1."""
    info: Literal["full", "none"]
    """Report the account in ``info``: ``"full"``; vectorised ones ``"none"``."""


class Range(NamedTuple):
    """A range of whole numbers, ``low`` and ``high`` included."""

    low: int
    high: int


class Settings(msgspec.Struct, frozen=True):
    """The checked arguments of an environment."""

    market: Market
    symbols: tuple[str, ...]
    interval: int
    clock: Clock
    """From the first completion of a candle to the last one, in steps of ``interval`` ms."""
    window: int
    features: tuple[Feature, ...]
    standardize: bool | Constants
    has_account: bool
    is_flat: bool
    is_discrete: bool
    most_weight: int
    """Largest weight, in millionths."""
    weights: tuple[int, ...]
    """In millionths."""
    rules: OrderRules
    brackets: tuple[Bracket, ...]
    chooses_bracket: bool
    reward: Reward
    reward_scale: float
    episode_steps: int
    start: Start
    sequence: tuple[int, int]
    split: SplitName
    splits: tuple[float, float, float]
    embargo: int
    costs: dict[str, Any]
    """The costs, balance and risk among the arguments of ``SessionConfig``."""
    margin: dict[str, Any]
    """Those of perpetuals; empty on spot."""
    randomize: dict[str, Range]
    """In millionths, hundredths of a basis point, and hundredths of the quote currency."""
    blind: BlindSettings | None
    """The disguise of each episode, whose seed is drawn; None without one."""
    ruin: float
    has_info: bool

    @property
    def is_perpetual(self) -> bool:
        """True if the account trades perpetuals."""
        return bool(self.margin)

    @property
    def least_weight(self) -> int:
        """The smallest weight, in millionths: that of the largest short, 0 on spot."""
        return -self.most_weight if self.is_perpetual else 0

    def session_config(
        self, first_step: int, steps: int, changes: Mapping[str, Any] | None = None
    ) -> SessionConfig:
        """Return the configuration of an episode's session; ``changes`` are drawn costs."""
        return SessionConfig(
            start_time=self.clock.time(first_step),
            end_time=self.clock.time(first_step + steps),
            candle_interval=self.interval // 1000,
            allow_gaps=True,
            **{**self.costs, **self.margin, **(changes or {})},
        )


def parse_settings(
    market: MarketSource,
    options: Mapping[str, Any],
    *,
    is_vector: bool,
    is_guarded: bool,
    has_perpetuals: bool = False,
) -> Settings:
    """Check the arguments of an environment; raises ``InvalidParameter`` naming the field.

    One that ``is_guarded`` needs a stop or a target, the others take none. Perpetuals are refused
    by one that has not ``has_perpetuals``; ``NoPrice`` tells of a funding rate that is missing.
    """
    for name in options:
        if name not in Options.__annotations__:
            known = ", ".join(Options.__annotations__)
            raise InvalidParameter(abbreviate(name), f"is not an argument; they are {known}")
    market = _market(market)
    interval = parse_interval(options.get("interval", "1m"))
    symbols = _symbols(options.get("symbol"), market)
    clock = _clock(market, symbols, interval)
    window = parse_count("window", options.get("window", 32))
    embargo = options.get("embargo")
    embargo = window if embargo is None else parse_count("embargo", embargo)
    if embargo < window:
        raise InvalidParameter("embargo", f"must be at least window, {window}")
    margin = _margin(options, symbols, has_perpetuals=has_perpetuals)
    most_weight = MILLION * int(parse_leverage(options.get("leverage", 1)))
    brackets, chooses_bracket = _brackets(options)
    if bool(brackets) != is_guarded:
        raise InvalidParameter(
            "stop_loss",
            "give stop_loss, take_profit or brackets"
            if is_guarded
            else "is possible in Candlestep/Bracket-v0 only, as are take_profit and brackets",
        )
    randomize = _randomize(options.get("randomize") or {}, options)
    reward, scale = options.get("reward", "log_return"), options.get("reward_scale", 1.0)
    Rewards(reward, scale, 1)
    is_discrete = _one_of(options, "actions", ("discrete", "continuous")) == "discrete"
    if chooses_bracket and not is_discrete:
        raise InvalidParameter("brackets", "are chosen by discrete actions only")
    settings = Settings(
        market=market,
        symbols=symbols,
        interval=interval,
        clock=clock,
        window=window,
        features=_features(options.get("features", "returns")),
        standardize=options.get("standardize", False),
        has_account=_boolean(options, "account"),
        is_flat=_one_of(options, "observation_shape", ("flat", "matrix")) == "flat",
        is_discrete=is_discrete,
        most_weight=most_weight,
        weights=_weights(
            options.get("weights", (0.0, 0.5, 1.0)), -most_weight if margin else 0, most_weight
        ),
        rules=OrderRules(
            _one_of(options, "rebalance", ("change", "always")) == "always",
            _millionths("min_trade", options.get("min_trade", 0)),
        ),
        brackets=brackets,
        chooses_bracket=chooses_bracket,
        reward=reward,
        reward_scale=float(parse_number("reward_scale", scale)),
        episode_steps=parse_count("episode_steps", options.get("episode_steps", 1440)),
        start=_one_of(options, "start", _STARTS),
        sequence=_sequence(options.get("sequence", (0, 1))),
        split=_one_of(options, "split", _SPLITS),
        splits=_shares(options.get("splits", (0.7, 0.15, 0.15))),
        embargo=embargo,
        costs=_costs(options, randomize, is_vector=is_vector),
        margin=margin,
        randomize=randomize,
        blind=_blind(options.get("blind", False), is_vector=is_vector),
        ruin=_fraction("ruin", options.get("ruin", 0.1), least=0),
        has_info=_one_of(options, "info", ("none", "full") if is_vector else ("full", "none"))
        == "full",
    )
    config = settings.session_config(0, clock.total_steps)
    if margin:
        config.open_clearing(market.part("perp"))
    return settings


def _market(market: MarketSource) -> Market:
    loaded = market() if callable(market) else market
    if not isinstance(loaded, Market):
        raise InvalidParameter(
            "market",
            "must be a Market or a function without arguments that returns one, got a"
            f" {type(loaded).__name__}; see candlestep.data.market.MarketSource for imported candles",
        )
    return loaded


def _symbols(symbol: object, market: Market) -> tuple[str, ...]:
    if symbol is None:
        if len(market.symbols) > 1:
            listed = ", ".join(market.symbols[:10])
            raise InvalidParameter("symbol", f"the market has several: {listed}; name one or more")
        return market.symbols
    names = [symbol] if isinstance(symbol, str) else symbol
    if not isinstance(names, list | tuple) or not names:
        raise InvalidParameter("symbol", "must be a symbol such as 'BTCUSDT', or a list of them")
    symbols = tuple(market.candles_of(name).symbol for name in names)
    if len(set(symbols)) < len(symbols):
        raise InvalidParameter("symbol", "names one twice")
    return tuple(sorted(symbols))


def _clock(market: Market, symbols: Sequence[str], interval: int) -> Clock:
    """Return the clock from the first completion of a candle of ``interval`` ms to the last one."""
    series = [market.candles_of(symbol) for symbol in symbols]
    first = max(int(candles.open_time[0]) for candles in series)
    own = series[0].intervals[0]
    # Candles that are not aggregated may open at any whole minute.
    start = first + interval if own == interval else -(-first // interval) * interval + interval
    last = min(candles.complete_time_of(-1) for candles in series)
    if last <= start:
        raise InvalidParameter("market", "has fewer than two candles that all symbols cover")
    clock = Clock(start, interval, (last - start) // interval)
    for candles in series:
        require_on_grid(candles, clock)
    return clock


def _features(features: object) -> tuple[Feature, ...]:
    if features == "returns":
        return RETURNS
    if isinstance(features, str) or callable(features) or isinstance(features, Mapping):
        features = [features]
    if not isinstance(features, list | tuple) or not features:
        raise InvalidParameter("features", "must be 'returns' or a list of features")
    return tuple(
        one for feature in features for one in (RETURNS if feature == "returns" else [feature])
    )


def _margin(
    options: Mapping[str, Any], symbols: Sequence[str], *, has_perpetuals: bool
) -> dict[str, Any]:
    """Return the arguments of ``SessionConfig`` for perpetuals; empty on spot."""
    given = {name: options[name] for name in _MARGIN if options.get(name) is not None}
    perpetuals = [symbol for symbol in symbols if is_perpetual(symbol)]
    if not perpetuals:
        for name in given:
            raise InvalidParameter(name, "applies to perpetuals, whose symbols end in -PERP")
        return {}
    if not has_perpetuals:
        raise InvalidParameter(
            "symbol",
            f"{perpetuals[0]} is a perpetual; only the single Candlestep/Target-v0 trades them",
        )
    if len(perpetuals) < len(symbols):
        raise InvalidParameter("symbol", "names spot pairs and perpetuals; an account has either")
    return {"market_type": "perp", **given}


def _weights(weights: object, least: int, most: int) -> tuple[int, ...]:
    if not isinstance(weights, list | tuple) or not weights:
        raise InvalidParameter("weights", "must be a list of shares of equity such as (0.0, 1.0)")
    return tuple(_whole("weights", weight, MILLION, least, most) for weight in weights)


def _brackets(options: Mapping[str, Any]) -> tuple[tuple[Bracket, ...], bool]:
    """Return the brackets, and whether actions choose between them."""
    pairs = options.get("brackets")
    single = (options.get("stop_loss"), options.get("take_profit"))
    if pairs is None:
        return (
            ((_bracket(*single),), False) if any(one is not None for one in single) else ((), False)
        )
    if single != (None, None):
        raise InvalidParameter("brackets", "replaces stop_loss and take_profit; leave these out")
    if not isinstance(pairs, list | tuple) or not pairs:
        raise InvalidParameter("brackets", "must be a list of pairs of stop_loss and take_profit")
    return tuple(_bracket(*pair) for pair in pairs), True


def _bracket(stop_loss: object, take_profit: object) -> Bracket:
    return Bracket(
        0 if stop_loss is None else _whole("stop_loss", stop_loss, MILLION, 1, MILLION - 1),
        0
        if take_profit is None
        else _whole("take_profit", take_profit, MILLION, 1, _MOST_TAKE_PROFIT),
    )


def _randomize(ranges: object, options: Mapping[str, Any]) -> dict[str, Range]:
    # The units, the bounds in these units, and what the drawn value replaces.
    known: dict[str, tuple[int, int, int, tuple[str, ...]]] = {
        "fee_rate": (MILLION, 0, MILLION, ("fee_rate", "fee_model")),
        "slippage_bps": (100, 0, 500_000, ("slippage",)),
        "starting_balance": (100, 1, 10**11, ("starting_balance",)),
    }
    if not isinstance(ranges, Mapping) or not set(ranges) <= set(known):
        raise InvalidParameter("randomize", f"must give ranges of {', '.join(known)}")
    parsed = {}
    for name, (units, least, most, replaced) in known.items():
        if name not in ranges:
            continue
        for other in replaced:
            if options.get(other) is not None:
                raise InvalidParameter(other, f"is drawn by randomize['{name}']; leave it out")
        pair = ranges[name]
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise InvalidParameter(f"randomize.{name}", "must be a pair of bounds")
        low, high = (_whole(f"randomize.{name}", bound, units, least, most) for bound in pair)
        if low > high:
            raise InvalidParameter(f"randomize.{name}", "must give the lower bound first")
        parsed[name] = Range(low, high)
    return parsed


def _costs(
    options: Mapping[str, Any], randomize: Mapping[str, Range], *, is_vector: bool
) -> dict[str, Any]:
    if is_vector and options.get("risk") is not None:
        raise InvalidParameter("risk", "limits are possible in single environments only")
    costs = {name: options[name] for name in _COSTS if options.get(name) is not None}
    if "slippage_bps" in randomize:
        costs["slippage"] = {"model": "fixed_bps", "bps": 0}
    return costs


def _blind(blind: object, *, is_vector: bool) -> BlindSettings | None:
    if blind is False:
        return None
    if is_vector:
        raise InvalidParameter(
            "blind",
            "is possible in single environments only, because each account would have a market of"
            ' its own; make_vec with vectorization_mode="sync" or "async" makes many of them',
        )
    known = BlindSettings.__struct_fields__[1:]
    parts = {} if blind is True else blind
    if not isinstance(parts, Mapping) or not set(parts) <= {*known}:
        raise InvalidParameter("blind", f"must be true, false, or a mapping of {', '.join(known)}")
    return BlindSettings.parse(0, **parts)


def _sequence(sequence: object) -> tuple[int, int]:
    if isinstance(sequence, list | tuple) and len(sequence) == 2:
        offset, stride = (python_number(number) for number in sequence)
        if isinstance(offset, int) and isinstance(stride, int) and offset >= 0 and stride >= 1:
            return offset, stride
    raise InvalidParameter("sequence", "must be the first episode, from 0, and the stride, from 1")


def _shares(shares: object) -> tuple[float, float, float]:
    if isinstance(shares, list | tuple) and len(shares) == 3:
        train, validation, test = (_fraction("splits", share, least=0) for share in shares)
        if abs(train + validation + test - 1) < 1e-9:
            return train, validation, test
    raise InvalidParameter("splits", "must be three shares that add up to 1")


def _fraction(field: str, value: object, *, least: int) -> float:
    number = parse_number(field, value)
    if not least <= number <= 1:
        raise InvalidParameter(field, f"must be from {least} to 1, got {abbreviate(value)}")
    return float(number)


def _whole(field: str, value: object, units: int, least: int, most: int) -> int:
    """Return a number as whole units, rounded to the nearest, within bounds in these units."""
    number = parse_number(field, value)
    whole = most + 1
    if number.copy_abs() <= most:
        whole = int(MARKET.multiply(number, Decimal(units)).to_integral_value())
    if not least <= whole <= most:
        bounds = (Decimal(bound) / units for bound in (least, most))
        raise InvalidParameter(
            field, f"must be from {' to '.join(map(str, bounds))}, got {abbreviate(value)}"
        )
    return whole


def _millionths(field: str, value: object) -> int:
    number = python_number(value)
    if type(number) is int and 0 <= number <= MILLION:
        return number
    raise InvalidParameter(
        field, f"must be whole millionths from 0 to {MILLION}, got {abbreviate(value)}"
    )


def _boolean(options: Mapping[str, Any], field: str) -> bool:
    value = options.get(field, True)
    if not isinstance(value, bool):
        raise InvalidParameter(field, "must be true or false")
    return value


def _one_of(options: Mapping[str, Any], field: str, known: Sequence[Choice]) -> Choice:
    """Return an option that has one of some names, by default the first."""
    return parse_choice(field, options.get(field, known[0]), known)
