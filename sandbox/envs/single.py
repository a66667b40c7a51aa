"""Environments of one account: a session whose agent asks for weights."""

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import gymnasium
import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.clock import Clock, format_time
from candlestep.sandbox.envs.blind import Stage, Stages
from candlestep.sandbox.envs.episodes import Episode, Episodes, features_of, split_of
from candlestep.sandbox.envs.features import Constants, FeatureTable
from candlestep.sandbox.envs.render import Picture, line
from candlestep.sandbox.envs.rewards import Rewards
from candlestep.sandbox.envs.settings import MarketSource, Options, Settings, parse_settings
from candlestep.sandbox.envs.spaces import (
    Actions,
    account_size,
    action_space,
    observation_space,
    window_size,
)
from candlestep.sandbox.envs.trader import UNITS, MarginTrader, Trader, units
from candlestep.sandbox.errors import InvalidParameter, InvalidState
from candlestep.sandbox.exchange.account import Holding, Portfolio
from candlestep.sandbox.money import multiply
from candlestep.sandbox.session import Session

RENDER_MODES = ("ansi", "rgb_array")
METADATA: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 30}
"""The metadata of all environments, as Gymnasium asks."""
Observation = NDArray[np.float32] | dict[str, NDArray[np.float32]]


class TargetEnv(gymnasium.Env[Any, Any]):
    """``Candlestep/Target-v0``: each action asks for a share of equity in each symbol.

    *Time.* The observation at time T has the features of the last ``window`` candles complete at T,
    oldest first, then the account. The action is carried out at T, at that close and with the
    slippage and fees of a market order. Then one step of ``interval`` passes. The reward compares
    equity at T + 1 with equity at T before the trade, so that fees and slippage are in the reward
    of the action that caused them, and logarithmic rewards of an episode add up to
    ln(final / start).

    *Action.* A weight w is rounded to whole millionths and clipped to 0 … 1; NaN is refused. If the
    weights of several symbols add up to more than 1, they are scaled down. The target is w times
    equity: below it the session buys what the cash that it needs affords, above it sells the
    difference, everything for 0; all sells first, then the buys, by symbol. What rounds to nothing
    is skipped. With ``rebalance="change"`` there is an order only when another weight is asked
    for than the last time; after a reset, a stop or a target, the last one is 0.

    *Perpetuals.* With symbols that end in ``-PERP`` the account has margin: weights go from minus
    ``leverage`` to it, and the target is w times equity in notional at the mark, short if negative.
    Absolute weights that add up to more than the leverage are scaled down. Orders that only reduce
    come first, then the others, by symbol; a change of sign is one order. One whose margin does not
    suffice becomes as large as margin allows. Funding and liquidation happen as in the exchange; a
    liquidation sets the last weight to 0, and ``terminated`` is also equity of 0 or less.

    *Observation.* A flat float32 vector: for each symbol ``window`` rows of features, then value
    over equity of each symbol, unrealized PnL over the starting balance, equity over the starting
    balance less 1, and the share of the episode's steps that is left. In a gap of the candles the
    window stays.

    *Flags.* The end of the episode is ``truncated``, equity below ``ruin`` times the start is
    ``terminated``.

    *Info* (amounts as floats): ``equity``, ``cash``, ``quantity``, ``realized_pnl``, ``fees``,
    ``fills``, ``time``; after a reset also what ``randomize`` has drawn, and ``features``, the
    constants of ``standardize``. ``reset`` takes the options ``row``, a step of ``clock``, or
    ``start_time``.

    *Export.* ``session`` is the live session, with every order and fill.
    """

    metadata = METADATA
    _is_guarded: ClassVar[bool] = False
    _has_perpetuals: ClassVar[bool] = True

    def __init__(
        self, market: MarketSource, *, render_mode: str | None = None, **options: Unpack[Options]
    ) -> None:
        """Make an environment of ``market``; ``Options`` describes the other arguments.

        Raises ``InvalidParameter`` naming the argument.
        """
        require_render_mode(render_mode)
        settings = parse_settings(
            market,
            options,
            is_vector=False,
            is_guarded=self._is_guarded,
            has_perpetuals=self._has_perpetuals,
        )
        self.settings = settings
        self.render_mode = render_mode
        self._table = features_of(settings)
        split = split_of(settings, self._table.first_step)
        self._episodes = Episodes(settings, split, settings.sequence)
        self._actions = Actions(settings)
        self._rewards = Rewards(settings.reward, settings.reward_scale, 1)
        self._stages = Stages(settings, self._table, split)
        self._stage = Stage(settings, self._table)
        self._observer = Observer(settings, self._table)
        self.observation_space = observation_space(settings, self._table)
        self.action_space = action_space(settings)
        self._is_single = len(settings.symbols) == 1
        self._trader: Trader | None = None
        self._episode = Episode(0, 0)
        self._done = 0
        self._start = self._equity = self._ruin = 0.0
        self._balance = 0

    @property
    def session(self) -> Session:
        """The session of the current episode; raises ``InvalidState`` before the first reset."""
        return self._running.session

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
        """The table of features, a row for each candle; read-only. Not in disguise."""
        return self._table.values

    @property
    def feature_constants(self) -> Constants | None:
        """The constants by which features are standardised, if they are: plain, to be kept.

        Give them as ``standardize`` to an environment of other candles.
        """
        return self._table.constants

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The name of each column of ``features``."""
        return self._table.names

    @property
    def _running(self) -> Trader:
        if self._trader is None:
            raise InvalidState("there is no episode yet; call reset first")
        return self._trader

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start the next episode; ``options`` may force its start, by ``row`` or ``start_time``."""
        super().reset(seed=seed)
        if seed is not None:
            self._episodes.rewind()
        episode = self._episodes.next(lambda: self.np_random, options)
        stage = self._stages.of(episode)
        if stage is not self._stage:
            self._stage, self._observer = stage, Observer(*stage)
        settings = stage.settings
        config = settings.session_config(episode.first_step, episode.steps, episode.changes)
        self._trader = trader = _trader_of(Session(config, settings.market), settings)
        self._episode, self._done = episode, 0
        self._balance = int(multiply(config.starting_balance, UNITS))
        self._start = self._equity = float(self._balance)
        self._ruin = self.settings.ruin * self._start
        self._rewards.begin(slice(None), np.array([self._start]))
        info = self._info(trader, 0) | episode.info if settings.has_info else episode.info
        if self._table.constants is not None:
            info = info | {"features": self._table.constants}
        step, portfolio = episode.first_step, trader.portfolio
        return self._observer.observe(step, portfolio, self._equity, 0, self._start, 1.0), info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Trade to the weight that ``action`` asks for, then let one step pass.

        Raises ``InvalidParameter`` for an action outside the space, and ``InvalidState`` after the
        end of the episode.
        """
        trader, settings = self._trader or self._running, self.settings
        if self._done == self._episode.steps:
            raise InvalidState("the episode is over; call reset")
        weights, brackets = self._actions.of_one(action)
        trader.trade(weights, brackets)
        trader.advance()
        self._done += 1
        episode, portfolio = self._episode, trader.portfolio
        equity = int(multiply(portfolio.total_equity, UNITS))
        realized = int(multiply(portfolio.realized_pnl, UNITS))
        before, after = self._equity, float(equity)
        self._equity = after
        reward = self._rewards.of_one(before, after, self._start)
        is_ruined = after < self._ruin or (after <= 0 and settings.is_perpetual)
        is_over = self._done == episode.steps
        info = self._info(trader, realized) if settings.has_info else {}
        step, left = episode.first_step + self._done, 1 - self._done / episode.steps
        unrealized = equity - self._balance - realized
        observation = self._observer.observe(step, portfolio, after, unrealized, self._start, left)
        return observation, reward, is_ruined, is_over, info

    def render(self) -> Any:
        """Return the account in a line of text, or prices and equity as an image of 640 x 360."""
        if self.render_mode is None:
            return None
        trader = self._running
        if self.render_mode == "ansi":
            return line(trader.session, self._stage.settings.symbols)
        return Picture.of_session(trader.session, self._stage.settings.symbols[0]).pixels()

    def _info(self, trader: Trader, realized: int) -> dict[str, Any]:
        portfolio = trader.portfolio
        quantity: float | NDArray[np.float64] = 0.0
        if not self._is_single:
            quantity = self._quantities(portfolio.holdings)
        elif portfolio.holdings:
            quantity = int(multiply(portfolio.holdings[0].quantity, UNITS)) / 1e8
        return {
            "equity": self._equity / 1e8,
            "cash": int(multiply(portfolio.available_cash, UNITS)) / 1e8,
            "quantity": quantity,
            "realized_pnl": realized / 1e8,
            "fees": trader.fees / 1e8,
            "fills": trader.fills,
            "time": format_time(trader.time),
        }

    def _quantities(self, holdings: tuple[Holding, ...]) -> NDArray[np.float64]:
        """Return the quantity held of each symbol."""
        held = {holding.symbol: units(holding.quantity) / 1e8 for holding in holdings}
        return np.array([held.get(symbol, 0.0) for symbol in self._stage.settings.symbols])


class BracketEnv(TargetEnv):
    """``Candlestep/Bracket-v0``: as ``Candlestep/Target-v0``, and what is bought is guarded.

    Each increase of a position cancels its guards and places new ones for all of it: a stop at
    ``stop_loss`` below the price of that fill and a target at ``take_profit`` above it, each rounded
    half up to 8 significant digits of the fill price. A decrease leaves them; whichever is reached
    first sells what is held. Within a candle the order of events is that of the exchange. With
    ``brackets`` the action chooses the distances, by a number for each symbol after the weights.
    """

    _is_guarded = True
    _has_perpetuals = False


class Observer:
    """Observations of one account."""

    def __init__(self, settings: Settings, table: FeatureTable, extra: int = 0) -> None:
        self._is_flat = settings.is_flat
        self._has_account = settings.has_account
        self._window = settings.window
        self._span = settings.window * len(table.names)
        self._windows = window_size(settings, table)
        self._rows = list(table.row - (settings.window - 1))
        """For each symbol and step, the row of its window in ``_views``."""
        self._places = {
            symbol: place for place, symbol in enumerate(settings.symbols, self._windows)
        }
        """The index in an observation of each symbol's value."""
        self._left = self._windows + len(settings.symbols) + 2
        """The index of the share of steps left; return and unrealized PnL stand before it."""
        self._room = account_size(settings) + extra
        self._views = table.windows(settings.window, self._room)

    def observe(
        self,
        step: int,
        portfolio: Portfolio,
        equity: float,
        unrealized: int,
        start: float,
        left: float,
        extra: tuple[float, ...] = (),
    ) -> Observation:
        """Return a new observation at a step of the clock, of an account as of then.

        Equity, unrealized PnL and the starting balance are in units of 1e-8.
        """
        if len(self._rows) == 1:
            observation: NDArray[np.float32] = self._views[self._rows[0].item(step)].copy()
        else:
            observation = self._several_windows(step)
        if self._has_account:
            # One number after another: an array made of them would take longer than all of them.
            values, places, place = portfolio.values, self._places, self._left
            if len(values) < len(places):
                observation[self._windows : place - 1] = 0
            if values:
                whole = equity if equity > 1 else 1.0
                for number, symbol in enumerate(portfolio.prices):
                    observation[places[symbol]] = int(multiply(values[number], UNITS)) / whole
                observation[place - 2] = unrealized / start
            observation[place - 1] = equity / start - 1
            observation[place] = left
            if extra:
                observation[place + 1 :] = extra
        if self._is_flat:
            return observation
        windows = observation[: self._windows].reshape(len(self._rows), self._window, -1)
        parts = {"window": np.concatenate(list(windows), axis=1)}
        if self._has_account:
            parts["account"] = observation[self._windows :].copy()
        return parts

    def _several_windows(self, step: int) -> NDArray[np.float32]:
        """Return a new array of the windows at a step, with room for the account behind them."""
        observation = np.empty(self._windows + self._room, np.float32)
        for number, row in enumerate(self._rows):
            place = number * self._span
            observation[place : place + self._span] = self._views[row.item(step), : self._span]
        return observation


def _trader_of(session: Session, settings: Settings) -> Trader:
    """Return who trades a session for the weights that are asked for."""
    if settings.is_perpetual:
        return MarginTrader(session, settings.symbols, settings.rules, settings.most_weight)
    return Trader(session, settings.symbols, settings.rules)


def require_render_mode(render_mode: str | None) -> None:
    """Raise ``InvalidParameter`` for an unknown mode."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise InvalidParameter("render_mode", f"must be one of {', '.join(RENDER_MODES)}, or None")
