"""Environments of many accounts, which NumPy steps together."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from candlestep.sandbox.clock import Clock, format_time
from candlestep.sandbox.envs.batch_observer import BatchObserver, Observations, Out
from candlestep.sandbox.envs.episodes import Episode, Episodes, features_of, split_of
from candlestep.sandbox.envs.features import Constants
from candlestep.sandbox.envs.played import PlayedEpisode
from candlestep.sandbox.envs.render import Picture, line
from candlestep.sandbox.envs.rewards import Rewards
from candlestep.sandbox.envs.settings import MarketSource, Options, parse_settings
from candlestep.sandbox.envs.single import METADATA, require_render_mode
from candlestep.sandbox.envs.spaces import Actions, action_space, index_space, observation_space
from candlestep.sandbox.errors import InvalidParameter, InvalidState
from candlestep.sandbox.exchange.batch.batch import Batch
from candlestep.sandbox.exchange.batch.exact import Floats
from candlestep.sandbox.money import parse_count
from candlestep.sandbox.session import Session

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]

_MODES = {
    "next_step": AutoresetMode.NEXT_STEP,
    "same_step": AutoresetMode.SAME_STEP,
    "disabled": AutoresetMode.DISABLED,
}


class TargetVectorEnv(VectorEnv[Any, Any, Any]):
    """``Candlestep/Target-v0`` for ``num_envs`` accounts: see ``TargetEnv`` for what a step does.

    Every number equals that of ``num_envs`` single environments under ``SyncVectorEnv`` with the
    same seed (sub-environment i gets seed + i), the same actions and the same autoreset mode; of
    sequential episodes, sub-environment i has every ``num_envs``-th from the i-th on.

    It differs in this: ``info`` is empty unless ``info="full"``; fees of tiers and risk limits are
    refused; an account that outgrows int64 (1.4 billion of the quote currency, 11 billion coins) is
    truncated, and ``info["overflow"]`` says so.
    """

    metadata = METADATA
    _is_guarded: ClassVar[bool] = False

    def __init__(
        self,
        market: MarketSource,
        num_envs: int = 1,
        *,
        autoreset_mode: Literal["next_step", "same_step", "disabled"] | AutoresetMode = "next_step",
        observation: Literal["window", "index"] = "window",
        copy: bool = True,
        record: bool = False,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        out: Out | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Make ``num_envs`` environments of ``market``; ``Options`` describes most arguments.

        ``observation="index"`` gives row numbers of ``features`` instead of windows. Without
        ``copy``, observations are in one buffer that the next step overwrites; ``out`` gives such
        buffers. With ``record`` the weights are kept, so that ``session`` and ``render`` work.
        ``max_episode_steps`` must equal ``episode_steps`` if it is given.

        Raises ``InvalidParameter`` naming the argument.
        """
        settings = parse_settings(market, options, is_vector=True, is_guarded=self._is_guarded)
        require_render_mode(render_mode)
        if render_mode is not None and not record:
            raise InvalidParameter("render_mode", "needs record=True")
        if max_episode_steps not in (None, settings.episode_steps):
            raise InvalidParameter("max_episode_steps", "leave it out, and give episode_steps")
        if settings.sequence != (0, 1):
            raise InvalidParameter(
                "sequence", "belongs to single environments; here it is (i, num_envs)"
            )
        if observation not in ("window", "index"):
            raise InvalidParameter("observation", "must be one of window, index")
        self.settings = settings
        self.num_envs = parse_count("num_envs", num_envs)
        self.render_mode = render_mode
        self._mode = _parse_mode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self._mode}
        table = features_of(settings)
        self._table = table
        self._is_index = observation == "index"
        if self._is_index:
            self.single_observation_space = index_space(settings, table)
        else:
            self.single_observation_space = observation_space(settings, table)
        self.single_action_space = action_space(settings)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._batch = Batch(
            settings.market,
            settings.symbols,
            self.num_envs,
            clock=settings.clock,
            starting_balance=settings.session_config(0, 1).starting_balance,
            costs=settings.session_config(0, settings.clock.total_steps).costs,
            rules=settings.rules,
            brackets=settings.brackets,
        )
        split = split_of(settings, table.first_step)
        self._episodes = [
            Episodes(settings, split, (number, self.num_envs)) for number in range(self.num_envs)
        ]
        self._randoms: list[np.random.Generator | None] = [None] * self.num_envs
        self._actions = Actions(settings)
        self._rewards = Rewards(settings.reward, settings.reward_scale, self.num_envs)
        self._observer = BatchObserver(
            settings, table, self._batch, is_index=self._is_index, copy=copy, out=out
        )
        self._current = [Episode(0, 0)] * self.num_envs
        self._done = np.zeros(self.num_envs, dtype=np.int64)
        self._length = np.ones(self.num_envs, dtype=np.int64)
        self._start = np.ones(self.num_envs)
        self._equity = np.ones(self.num_envs)
        self._ended = np.zeros(self.num_envs, dtype=bool)
        self._has_begun = False
        self._log: _Log | None = None
        if record:
            self._log = _Log(settings.episode_steps, len(settings.symbols), self.num_envs)

    @property
    def clock(self) -> Clock:
        """The steps at which episodes may start and actions be taken."""
        return self.settings.clock

    @property
    def episode_count(self) -> int:
        """Number of episodes that fit the split side by side, as sequential ones do."""
        return self._episodes[0].count

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

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The name of each column of ``features``."""
        return self._table.names

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start the next episodes; sub-environment i gets ``seed`` + i, or the i-th of several.

        ``options`` are those of ``TargetEnv.reset``, and ``reset_mask``: the sub-environments to
        reset, by default all.
        """
        options = dict(options or {})
        mask = options.pop("reset_mask", None)
        accounts = np.arange(self.num_envs) if mask is None else self._masked(mask)
        seeds = _seeds(seed, self.num_envs)
        for account in accounts.tolist():
            if seeds[account] is not None:
                self._randoms[account] = seeding.np_random(seeds[account])[0]
                self._episodes[account].rewind()
        self._begin(accounts, options)
        self._has_begun = self._has_begun or mask is None
        return self._observe(), self._begun_info(accounts, {})

    def step(self, actions: Any) -> tuple[Any, Floats, Mask, Mask, dict[str, Any]]:
        """Trade every account to the weight that its action asks for, then let one step pass.

        Raises ``InvalidParameter`` for actions outside the space, and ``InvalidState`` before the
        first reset or, with ``autoreset_mode="disabled"``, for ended sub-environments.
        """
        self._require_running()
        weights, brackets = self._actions.of_many(actions)
        if weights.shape[1] != self.num_envs:
            raise InvalidParameter("action", f"must be {self.num_envs}, got {weights.shape[1]}")
        batch = self._batch
        if self._log is not None:
            self._log.write(self._done, weights, brackets)
        batch.trade(weights, brackets)
        batch.advance()
        self._done += 1
        before, after = self._equity, batch.equity.astype(np.float64)
        self._equity = after
        rewards = self._rewards.of(before, after, self._start)
        terminations = after < self.settings.ruin * self._start
        truncations = self._done >= self._length
        infos: dict[str, Any] = {}
        if batch.overflow.any():
            truncations |= batch.overflow
            infos = {"overflow": batch.overflow.copy(), "_overflow": batch.overflow.copy()}
        if self._mode is AutoresetMode.SAME_STEP:
            infos = self._reset_ended(terminations | truncations, infos)
        elif self._ended.any():
            again = np.flatnonzero(self._ended)
            self._begin(again, {})
            rewards[again] = 0
            terminations[again] = truncations[again] = False
            infos = self._begun_info(again, infos)
        if self._mode is not AutoresetMode.SAME_STEP:
            self._ended = terminations | truncations
            self._keep_finished(np.flatnonzero(self._ended))
        if self.settings.has_info:
            infos |= self._info(np.ones(self.num_envs, dtype=bool))
        return self._observe(), rewards, terminations, truncations, infos

    def episode(self, number: int, *, finished: bool = False) -> PlayedEpisode:
        """Return the current episode of a sub-environment, or the last that it has finished.

        Raises ``InvalidState`` without ``record=True``, or if there is none yet.
        """
        if self._log is None:
            raise InvalidState("episodes are not recorded; make the environment with record=True")
        if finished:
            played = self._log.finished[number]
            if played is None:
                raise InvalidState(f"sub-environment {number} has not finished an episode yet")
            return played
        done = min(int(self._done[number]), self._current[number].steps)
        return self._log.played(self._current[number], number, done)

    def session(self, number: int, *, finished: bool = False) -> Session:
        """Return the session of a sub-environment's episode, made again order by order.

        Its account is that of the sub-environment to the last digit. Takes as long as stepping a
        single environment through the episode. Raises as ``episode`` does.
        """
        return self.episode(number, finished=finished).session(self.settings)

    def write_to(self, out: Out) -> None:
        """Write observations into ``out`` from now on, as the argument does."""
        self._observer.write_to(out)

    def render(self) -> tuple[Any, ...] | None:
        """Return what ``TargetEnv.render`` does for each sub-environment."""
        if self.render_mode is None:
            return None
        symbols = self.settings.symbols
        sessions = [self.session(number) for number in range(self.num_envs)]
        if self.render_mode == "ansi":
            return tuple(line(session, symbols) for session in sessions)
        return tuple(Picture.of_session(session, symbols[0]).pixels() for session in sessions)

    def _require_running(self) -> None:
        if not self._has_begun:
            raise InvalidState("there are no episodes yet; call reset first")
        if self._mode is AutoresetMode.DISABLED and self._ended.any():
            ended = np.flatnonzero(self._ended)[:5].tolist()
            raise InvalidState(
                f"sub-environments {ended} have ended; reset them with"
                " options={'reset_mask': terminations | truncations}"
            )

    def _masked(self, mask: Any) -> Indices:
        is_mask = isinstance(mask, np.ndarray) and mask.dtype == bool
        if not is_mask or mask.shape != (self.num_envs,) or not mask.any():
            raise InvalidParameter(
                "options.reset_mask",
                f"must be a boolean array of {self.num_envs}, not all of them False",
            )
        if not self._has_begun:
            raise InvalidState("there are no episodes yet; call reset without a mask first")
        return np.flatnonzero(mask)

    def _random(self, account: int) -> np.random.Generator:
        generator = self._randoms[account]
        if generator is None:
            generator = self._randoms[account] = seeding.np_random(None)[0]
        return generator

    def _begin(self, accounts: Indices, options: Mapping[str, Any]) -> None:
        episodes = [
            self._episodes[account].next(lambda account=account: self._random(account), options)
            for account in accounts.tolist()
        ]
        for account, episode in zip(accounts.tolist(), episodes, strict=True):
            self._current[account] = episode
        drawn = [np.array([episode[field] for episode in episodes]) for field in range(5)]
        steps, lengths, fee_rates, slippages, balances = drawn
        self._batch.begin(
            accounts,
            steps,
            balances=None if balances.dtype == object else balances * 10**6,
            fee_rates=None if fee_rates.dtype == object else fee_rates,
            slippages=None if slippages.dtype == object else slippages,
        )
        self._done[accounts] = 0
        self._length[accounts] = lengths
        start = self._batch.starting_balance[accounts].astype(np.float64)
        self._start[accounts] = self._equity[accounts] = start
        self._ended[accounts] = False
        self._rewards.begin(accounts, start)

    def _reset_ended(self, ended: Mask, infos: dict[str, Any]) -> dict[str, Any]:
        """Start the next episodes of sub-environments that have just ended, in the same step."""
        accounts = np.flatnonzero(ended)
        if not len(accounts):
            return infos
        self._keep_finished(accounts)
        final = np.full(self.num_envs, None, dtype=object)
        last = self._observer.observe(self._done, self._length, self._start, accounts)
        for place, account in enumerate(accounts.tolist()):
            final[account] = _part(last, place)
        final_info = self._info(ended) if self.settings.has_info else {}
        infos |= {
            "final_obs": final,
            "_final_obs": ended.copy(),
            "final_info": final_info,
            "_final_info": ended.copy(),
        }
        self._begin(accounts, {})
        return self._begun_info(accounts, infos)

    def _keep_finished(self, accounts: Indices) -> None:
        if self._log is not None:
            for account in accounts.tolist():
                done = min(int(self._done[account]), self._current[account].steps)
                self._log.finish(self._current[account], account, done)

    def _observe(self) -> Observations:
        return self._observer.observe(self._done, self._length, self._start)

    def _begun_info(self, accounts: Indices, infos: dict[str, Any]) -> dict[str, Any]:
        """Add what was drawn for episodes that have begun; with full info also all of a reset."""
        mask = np.zeros(self.num_envs, dtype=bool)
        mask[accounts] = True
        if self.settings.has_info:
            infos |= self._info(mask)
            if self.feature_constants is not None:
                for account in accounts.tolist():
                    self._add_info(infos, {"features": self.feature_constants}, account)
        for account in accounts.tolist() if self.settings.randomize else ():
            for name, value in self._current[account].info.items():
                infos.setdefault(name, np.zeros(self.num_envs))[account] = value
                infos[f"_{name}"] = mask.copy()
        return infos

    def _info(self, mask: Mask) -> dict[str, Any]:
        """Return the accounts of some sub-environments as ``SyncVectorEnv`` would."""
        batch = self._batch
        places = np.flatnonzero(mask)
        times = np.full(self.num_envs, None, dtype=object)
        for place in places.tolist():
            times[place] = format_time(self.clock.time(int(batch.step[place])))
        quantity = batch.quantity[0] if len(batch.quantity) == 1 else batch.quantity.T
        amounts = {
            "equity": batch.equity,
            "cash": batch.cash,
            "quantity": quantity,
            "realized_pnl": batch.realized,
            "fees": batch.fees,
        }
        infos: dict[str, Any] = {}
        for name, amount in amounts.items():
            infos[name] = np.zeros(amount.shape)
            infos[name][places] = amount[places] / 1e8
        infos["fills"] = np.where(mask, batch.fills, 0)
        infos["time"] = times
        return infos | {f"_{name}": mask.copy() for name in infos}


class BracketVectorEnv(TargetVectorEnv):
    """``Candlestep/Bracket-v0`` for many accounts: see ``BracketEnv`` and ``TargetVectorEnv``."""

    _is_guarded = True


class _Log:
    """The weights and brackets asked for at each step of the current episodes."""

    def __init__(self, steps: int, symbols: int, accounts: int) -> None:
        self._weights = np.zeros((steps, symbols, accounts), dtype=np.int32)
        self._brackets: NDArray[np.int16] | None = None
        self._accounts = np.arange(accounts)
        self.finished: list[PlayedEpisode | None] = [None] * accounts

    def write(self, done: NDArray[Any], weights: NDArray[Any], brackets: Any) -> None:
        """Note what is asked for at the step after ``done`` ones; ended accounts do not count."""
        steps = np.minimum(done, len(self._weights) - 1)
        is_open = np.flatnonzero(done < len(self._weights))
        steps, accounts = steps[is_open], self._accounts[is_open]
        self._weights[steps, :, accounts] = weights[:, is_open].T
        if brackets is not None:
            if self._brackets is None:
                self._brackets = np.zeros(self._weights.shape, dtype=np.int16)
            self._brackets[steps, :, accounts] = brackets[:, is_open].T

    def played(self, episode: Episode, account: int, done: int) -> PlayedEpisode:
        """Return the first ``done`` steps of an account's episode."""
        brackets = self._brackets
        return PlayedEpisode(
            episode,
            self._weights[:done, :, account].copy(),
            None if brackets is None else brackets[:done, :, account].copy(),
        )

    def finish(self, episode: Episode, account: int, done: int) -> None:
        """Keep an episode that has ended."""
        self.finished[account] = self.played(episode, account, done)


def _part(observations: Observations, place: int) -> Any:
    if isinstance(observations, dict):
        return {name: part[place] for name, part in observations.items()}
    return observations[place]


def _parse_mode(mode: object) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    if mode not in _MODES:
        raise InvalidParameter("autoreset_mode", f"must be one of {', '.join(_MODES)}")
    return _MODES[str(mode)]


def _seeds(seed: int | Sequence[int | None] | None, count: int) -> list[int | None]:
    if seed is None:
        return [None] * count
    if isinstance(seed, int | np.integer):
        return [int(seed) + number for number in range(count)]
    if len(seed) != count:
        raise InvalidParameter("seed", f"must be one, or {count}, got {len(seed)}")
    return list(seed)
