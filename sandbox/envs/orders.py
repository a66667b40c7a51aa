"""The environment of single orders: an agent that places and cancels them in a session."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Unpack, get_args

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from candlestep.sandbox.clock import Clock, format_time
from candlestep.sandbox.envs.blind import Stage, Stages
from candlestep.sandbox.envs.episodes import Episode, Episodes, features_of, split_of
from candlestep.sandbox.envs.features import Constants
from candlestep.sandbox.envs.render import Picture, line
from candlestep.sandbox.envs.rewards import Rewards
from candlestep.sandbox.envs.settings import MarketSource, Options, parse_settings
from candlestep.sandbox.envs.single import (
    METADATA,
    Observation,
    Observer,
    require_render_mode,
)
from candlestep.sandbox.envs.spaces import observation_space
from candlestep.sandbox.envs.trader import UNITS, units
from candlestep.sandbox.errors import (
    InsufficientBalance,
    InvalidParameter,
    InvalidState,
    RiskLimitExceeded,
    SandboxError,
)
from candlestep.sandbox.exchange.account import Portfolio
from candlestep.sandbox.exchange.orders import OrderType, parse_choice
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    HUNDRED,
    PRICE_PLACES,
    multiply,
    parse_count,
    parse_number,
    rounded,
    rounded_product,
)
from candlestep.sandbox.session import Session

_EXTRA = 3
_CHOICES: tuple[OrderType, ...] = get_args(OrderType)
_STOPS = ("stop_loss", "stop_limit", "trailing_stop")


class OrdersEnv(gymnasium.Env[Any, Any]):
    """``Candlestep/Orders-v0``: each action places an order, or cancels the pending ones.

    *Time, reward, flags* are those of ``TargetEnv``. There is one symbol.

    *Action.* ``MultiDiscrete`` of kind (0 nothing, 1 market, 2 limit, 3 stop_loss, 4 take_profit,
    5 cancel all), side (0 buy, 1 sell), size and offset. A size is a share of the cash that is
    available, costs included, or of the quantity held; an offset is the distance of the limit or
    trigger price from the price, on the side on which the order has to wait. Orders rest until
    they fill or are cancelled. ``kinds`` names other types, in the sequence of their numbers, before
    that of cancelling. A stop_limit has its limit at twice the offset, a take_profit_limit at its
    trigger; a trailing_stop trails by the offset.

    *Observation.* That of ``TargetEnv``, then the number of pending orders over ``max_pending``,
    locked cash over equity, and the locked share of the quantity held.

    *Info.* Also ``pending``, and ``refused``: why the order of this step was not accepted, or "".
    An order that the exchange refuses, or one too many, changes nothing.
    """

    metadata = METADATA

    def __init__(
        self,
        market: MarketSource,
        *,
        sizes: Sequence[float] = (0.1, 0.25, 0.5, 1.0),
        offsets: Sequence[float] = (0.001, 0.0025, 0.005, 0.01),
        max_pending: int = 8,
        kinds: Sequence[OrderType] = ("market", "limit", "stop_loss", "take_profit"),
        render_mode: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Make an environment of ``market``; ``Options`` describes the other arguments.

        Those about weights have no effect here. Raises ``InvalidParameter`` naming the argument.
        """
        require_render_mode(render_mode)
        settings = parse_settings(market, options, is_vector=False, is_guarded=False)
        if len(settings.symbols) > 1:
            raise InvalidParameter("symbol", "must be a single one in Candlestep/Orders-v0")
        self.settings = settings
        self.render_mode = render_mode
        self._sizes = _decimals("sizes", sizes)
        self._offsets = _decimals("offsets", offsets)
        self._most_pending = parse_count("max_pending", max_pending)
        self._kinds = (None, *(parse_choice("kinds", kind, _CHOICES) for kind in kinds), None)
        self._table = features_of(settings)
        split = split_of(settings, self._table.first_step)
        self._episodes = Episodes(settings, split, settings.sequence)
        self._rewards = Rewards(settings.reward, settings.reward_scale, 1)
        self._extra = extra = _EXTRA if settings.has_account else 0
        self._stages = Stages(settings, self._table, split)
        self._stage = Stage(settings, self._table)
        self._observer = Observer(settings, self._table, extra)
        self.observation_space = observation_space(settings, self._table, extra)
        self.action_space = spaces.MultiDiscrete([len(self._kinds), 2, len(sizes), len(offsets)])
        self._session: Session | None = None
        self._episode = Episode(0, 0)
        self._start = self._equity = 0.0

    @property
    def session(self) -> Session:
        """The session of the current episode; raises ``InvalidState`` before the first reset."""
        if self._session is None:
            raise InvalidState("there is no episode yet; call reset first")
        return self._session

    @property
    def _symbol(self) -> str:
        return self._stage.settings.symbols[0]

    @property
    def episode(self) -> Episode:
        """The current episode: where it started, and what was drawn for it."""
        return self._episode

    @property
    def clock(self) -> Clock:
        """The steps at which episodes may start and actions be taken."""
        return self.settings.clock

    @property
    def episode_count(self) -> int:
        """Number of episodes that fit the split side by side, as sequential ones do."""
        return self._episodes.count

    @property
    def features(self) -> NDArray[np.float32]:
        """The table of features, a row for each candle; read-only."""
        return self._table.values

    @property
    def feature_constants(self) -> Constants | None:
        """The constants by which features are standardised, if they are: plain, to be kept.

        Give them as ``standardize`` to an environment of other candles.
        """
        return self._table.constants

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start the next episode; ``options`` are those of ``TargetEnv.reset``."""
        super().reset(seed=seed)
        if seed is not None:
            self._episodes.rewind()
        episode = self._episodes.next(lambda: self.np_random, options)
        stage = self._stages.of(episode)
        if stage is not self._stage:
            self._stage, self._observer = stage, Observer(*stage, self._extra)
        settings = stage.settings
        config = settings.session_config(episode.first_step, episode.steps, episode.changes)
        self._session = Session(config, settings.market)
        self._episode = episode
        self._start = self._equity = units(config.starting_balance)
        self._rewards.begin(slice(None), np.array([self._start]))
        portfolio = self._session.portfolio()
        info = self._info(portfolio, "") | episode.info
        if self._table.constants is not None:
            info = info | {"features": self._table.constants}
        return self._observation(portfolio), info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Do what ``action`` says, then let one step pass.

        Raises ``InvalidParameter`` for an action outside the space, and ``InvalidState`` after the
        end of the episode.
        """
        session = self.session
        if session.status != "running":
            raise InvalidState("the episode is over; call reset")
        numbers = np.asarray(action)
        if numbers.dtype.kind not in "iu" or not self.action_space.contains(
            numbers.astype(np.int64)
        ):
            raise InvalidParameter("action", f"must be one of {self.action_space}, got {action}")
        refused = self._act(*numbers.tolist())
        step = session.step()
        before, self._equity = self._equity, units(step.portfolio.total_equity)
        reward = self._rewards.of_one(before, self._equity, self._start)
        is_ruined = self._equity < self.settings.ruin * self._start
        info = self._info(step.portfolio, refused)
        return self._observation(step.portfolio), reward, is_ruined, step.is_complete, info

    def render(self) -> Any:
        """Return the account in a line of text, or prices and equity as an image of 640 x 360."""
        if self.render_mode is None:
            return None
        if self.render_mode == "ansi":
            return line(self.session, self._stage.settings.symbols)
        return Picture.of_session(self.session, self._symbol).pixels()

    def _act(self, kind: int, side: int, size: int, offset: int) -> str:
        """Place or cancel; return why an order was refused, or "" if none was."""
        session, type = self.session, self._kinds[kind]
        if kind == len(self._kinds) - 1:
            for order in session.open_orders():
                session.cancel_order(order.id)
        if type is None:
            return ""
        if type != "market" and session.pending_count >= self._most_pending:
            return "max_pending"
        try:
            self._place(type, side == 0, self._sizes[size], self._offsets[offset])
        except (InsufficientBalance, RiskLimitExceeded, InvalidParameter) as refusal:
            return _reason(refusal)
        return ""

    def _place(self, type: OrderType, is_buy: bool, size: Decimal, offset: Decimal) -> None:
        session, symbol = self.session, self._symbol
        # The table of triggers: a buy limit, a sell stop and a buy target wait for a fall.
        waits_for_fall = is_buy != (type in _STOPS)
        factor = 1 - offset if waits_for_fall else 1 + offset
        now = session.price(symbol)
        price = rounded(multiply(now, factor), PRICE_PLACES)
        prices: dict[str, Any] = {}
        if type in ("stop_limit", "take_profit_limit"):
            beyond = factor + factor - 1 if type == "stop_limit" else factor
            prices = {"trigger_price": price, "price": rounded(multiply(now, beyond), PRICE_PLACES)}
        elif type != "market":
            prices = {"price" if type == "limit" else "trigger_price": price}
        if is_buy:
            cash = rounded_product(session.account.available_cash, size)
            # A trailing stop locks what a stop does that waits where it begins.
            sized = "stop_loss" if type == "trailing_stop" else type
            quantity = session.affordable(symbol=symbol, cash=cash, type=sized, **prices)
        else:
            quantity = rounded_product(session.account.holding(symbol).quantity, size)
        if type == "trailing_stop":
            prices = {"trail_percent": multiply(offset, HUNDRED)}
        side = "buy" if is_buy else "sell"
        session.place_order(symbol=symbol, side=side, type=type, quantity=quantity, **prices)

    def _observation(self, portfolio: Portfolio) -> Observation:
        session, symbol = self.session, self._symbol
        done = session.step_number
        held = session.account.holding(symbol).quantity
        locked = session.account.locked_quantity(symbol)
        extra = (
            session.pending_count / self._most_pending,
            units(portfolio.locked_cash) / max(self._equity, 1.0),
            units(locked) / units(held) if held else 0.0,
        )
        return self._observer.observe(
            self._episode.first_step + done,
            portfolio,
            self._equity,
            int(multiply(portfolio.unrealized_pnl, UNITS)),
            self._start,
            1 - done / self._episode.steps,
            extra,
        )

    def _info(self, portfolio: Portfolio, refused: str) -> dict[str, Any]:
        if not self.settings.has_info:
            return {}
        session = self.session
        fills = session.fills
        return {
            "equity": self._equity / 1e8,
            "cash": (units(portfolio.available_cash) + units(portfolio.locked_cash)) / 1e8,
            "quantity": units(session.account.holding(self._symbol).quantity) / 1e8,
            "realized_pnl": units(portfolio.realized_pnl) / 1e8,
            "fees": sum(units(fill.fee) for fill in fills) / 1e8,
            "fills": len(fills),
            "time": format_time(session.time),
            "pending": session.pending_count,
            "refused": refused,
        }


def _reason(refusal: SandboxError) -> str:
    return f"{refusal.code}: {refusal.message}"


def _decimals(field: str, shares: Sequence[float]) -> list[Decimal]:
    """Parse shares above 0 and at most 1."""
    if not isinstance(shares, list | tuple) or not shares:
        raise InvalidParameter(field, "must be a list of shares such as (0.5, 1.0)")
    parsed = [rounded(parse_number(field, share), AMOUNT_PLACES) for share in shares]
    if not all(0 < share <= 1 for share in parsed):
        raise InvalidParameter(field, "must be above 0 and at most 1")
    return parsed
