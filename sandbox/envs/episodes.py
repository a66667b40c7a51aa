"""Episodes: where they may lie, and which one comes next."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from candlestep.sandbox.clock import Clock, format_time, parse_time
from candlestep.sandbox.envs.features import FeatureTable, feature_table
from candlestep.sandbox.envs.settings import Settings, SplitName
from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.market.blind.disguise import LARGEST_SEED
from candlestep.sandbox.money import EXACT, python_number


class Split(NamedTuple):
    """The steps of the clock in which episodes lie, both included."""

    first: int
    last: int


class Episode(NamedTuple):
    """An episode that begins: its steps, and what was drawn for it."""

    first_step: int
    steps: int
    fee_rate: int | None = None
    """In millionths."""
    slippage: int | None = None
    """In millionths, which are hundredths of a basis point."""
    balance: int | None = None
    """In hundredths of the quote currency."""
    seed: int | None = None
    """The seed of the disguise of its market."""

    @property
    def changes(self) -> dict[str, Any]:
        """The settings that were drawn, as arguments of ``SessionConfig``."""
        changes: dict[str, Any] = {}
        if self.fee_rate is not None:
            changes["fee_rate"] = EXACT.scaleb(Decimal(self.fee_rate), -6)
        if self.slippage is not None:
            bps = EXACT.scaleb(Decimal(self.slippage), -2)
            changes["slippage"] = {"model": "fixed_bps", "bps": bps}
        if self.balance is not None:
            changes["starting_balance"] = EXACT.scaleb(Decimal(self.balance), -2)
        return changes

    @property
    def info(self) -> dict[str, float]:
        """The settings that were drawn, as ``info`` reports them."""
        units = {
            "fee_rate": (self.fee_rate, 1e6),
            "slippage_bps": (self.slippage, 1e2),
            "starting_balance": (self.balance, 1e2),
        }
        info = {name: drawn / unit for name, (drawn, unit) in units.items() if drawn is not None}
        return info if self.seed is None else info | {"blind_seed": self.seed}


class Episodes:
    """The episodes of one account, one after another."""

    def __init__(self, settings: Settings, split: Split, sequence: tuple[int, int]) -> None:
        self._settings = settings
        self._split = split
        self._offset, self._stride = sequence
        self._next = self._offset

    @property
    def count(self) -> int:
        """Number of episodes that fit the split side by side."""
        return (self._split.last - self._split.first) // self._settings.episode_steps

    def rewind(self) -> None:
        """Begin again at the first of sequential episodes."""
        self._next = self._offset

    def next(
        self, random: Callable[[], np.random.Generator], options: Mapping[str, Any] | None = None
    ) -> Episode:
        """Return the next episode; ``options`` may force its start by ``row`` or ``start_time``.

        Draws in this sequence: fee rate, slippage, balance, disguise, start. Raises ``InvalidParameter`` for
        a start outside the split.
        """
        settings, split = self._settings, self._split
        drawn = {
            name: int(random().integers(bounds.low, bounds.high + 1))
            for name, bounds in settings.randomize.items()
        }
        names = ("fee_rate", "slippage_bps", "starting_balance")
        seed = None if settings.blind is None else int(random().integers(LARGEST_SEED + 1))
        costs = (*(drawn.get(name) for name in names), seed)
        forced = _forced_start(options or {}, settings.clock, split)
        if forced is not None:
            return Episode(forced, min(settings.episode_steps, split.last - forced), *costs)
        last = split.last - settings.episode_steps
        if settings.start == "random":
            first = int(random().integers(split.first, last + 1))
        elif settings.start == "first":
            first = split.first
        else:
            first = split.first + self._next % self.count * settings.episode_steps
            self._next += self._stride
        return Episode(first, settings.episode_steps, *costs)


def split_of(settings: Settings, first_step: int) -> Split:
    """Return the steps of the chosen split; raises ``InvalidParameter`` if no episode fits.

    The steps from ``first_step`` on are divided by the shares, and the embargo is taken from the
    beginning of the later splits.
    """
    split = _splits(settings, first_step)[settings.split]
    if split.last - split.first < settings.episode_steps:
        raise InvalidParameter(
            "episode_steps",
            f"{settings.episode_steps} steps do not fit the split {settings.split!r}, which has"
            f" {max(0, split.last - split.first)}; choose fewer, or load more candles",
        )
    return split


def features_of(settings: Settings) -> FeatureTable:
    """Compute the features of an environment, standardised if its settings say so.

    Constants that are not given are those of the train split, whichever split is played. Raises
    ``InvalidParameter`` as ``feature_table`` does.
    """
    symbols, window, wanted = settings.symbols, settings.window, settings.standardize
    table = feature_table(settings.market, symbols, settings.features, settings.clock, window)
    if wanted is False:
        return table
    if wanted is True:
        train = _splits(settings, table.first_step)["train"]
        return table.scaled_by(table.fitted(symbols, train.first, train.last, window))
    return table.scaled_by(table.checked(wanted, symbols))


def _splits(settings: Settings, first_step: int) -> dict[SplitName, Split]:
    total = settings.clock.total_steps
    usable = total - first_step
    train, validation, _ = settings.splits
    bounds = [first_step + int(usable * share) for share in (train, train + validation)]
    return {
        "all": Split(first_step, total),
        "train": Split(first_step, bounds[0]),
        "validation": Split(bounds[0] + settings.embargo, bounds[1]),
        "test": Split(bounds[1] + settings.embargo, total),
    }


def _forced_start(options: Mapping[str, Any], clock: Clock, split: Split) -> int | None:
    unknown = set(options) - {"row", "start_time"}
    if unknown:
        raise InvalidParameter(
            "options", f"has the unknown member {min(map(str, unknown))!r}; give row or start_time"
        )
    if len(options) > 1:
        raise InvalidParameter("options", "give row or start_time, not both")
    if "start_time" in options:
        row: object = -(
            -(parse_time(options["start_time"], "start_time") - clock.start) // clock.interval
        )
    elif "row" in options:
        row = python_number(options["row"])
    else:
        return None
    field = next(iter(options))
    if type(row) is not int or not split.first <= row < split.last:
        times = [format_time(clock.time(step)) for step in (split.first, split.last - 1)]
        raise InvalidParameter(
            f"options.{field}",
            f"must lie in the split: rows {split.first} to {split.last - 1}, {times[0]} to"
            f" {times[1]}; got {abbreviate(options[field])}",
        )
    return row
