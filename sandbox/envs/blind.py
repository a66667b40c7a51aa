"""Episodes on blind markets: each in a disguise of its own, drawn at the reset."""

from typing import NamedTuple

import msgspec

from candlestep.sandbox.clock import EARLIEST
from candlestep.sandbox.envs.episodes import Episode, Split
from candlestep.sandbox.envs.features import FeatureTable, feature_table
from candlestep.sandbox.envs.settings import Settings
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.market.blind.disguise import Disguise


class Stage(NamedTuple):
    """The market on which an episode is played, in the settings, and its features."""

    settings: Settings
    table: FeatureTable


class Stages:
    """The market of an environment as each episode shows it: as it is, or in disguise."""

    def __init__(self, settings: Settings, table: FeatureTable, split: Split) -> None:
        self._open = Stage(settings, table)
        self._blind = settings.blind
        # Nothing after the split, so that the bootstrap draws no day that is kept for tests.
        self._past = settings.market
        if self._blind is not None:
            past = settings.market.between(EARLIEST, settings.clock.time(split.last))
            assert past is not None, "a split has candles"
            self._past = past

    def of(self, episode: Episode) -> Stage:
        """Return the stage of an episode; linear in the candles if it is in disguise.

        Raises ``InvalidParameter`` if drawn days leave the first windows incomplete.
        """
        settings = self._open.settings
        if self._blind is None or episode.seed is None:
            return self._open
        wanted = msgspec.structs.replace(self._blind, seed=episode.seed)
        disguise = Disguise.draw(wanted, self._past.symbols, self._past.span)
        clock = settings.clock
        moved = msgspec.structs.replace(clock, start=clock.start + disguise.shift)
        shown = msgspec.structs.replace(
            settings,
            market=self._past.disguised(disguise),
            symbols=tuple(disguise.names[symbol] for symbol in settings.symbols),
            clock=moved,
        )
        table = feature_table(
            shown.market, shown.symbols, shown.features, shown.clock, shown.window
        )
        if self._open.table.constants is not None:
            table = table.scaled_by(self._open.table.constants)
        if table.first_step > episode.first_step:
            raise InvalidParameter(
                "blind",
                "the drawn days leave too few candles before the episode: the market has holes; use"
                " another variant, or a market without them",
            )
        return Stage(shown, table)
