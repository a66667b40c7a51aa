"""Episodes that were played, from which their sessions are made again."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.envs.episodes import Episode
from candlestep.sandbox.envs.settings import Settings
from candlestep.sandbox.envs.trader import Trader
from candlestep.sandbox.session import Session


class PlayedEpisode(NamedTuple):
    """An episode, and what its agent asked for at each step so far; it can be pickled."""

    episode: Episode
    weights: NDArray[np.int32]
    """A row for each step, a column for each symbol, in millionths."""
    brackets: NDArray[np.int16] | None
    """The numbers of the brackets, if they were chosen."""

    def session(self, settings: Settings) -> Session:
        """Return the session in which an agent of the same settings asked for the same."""
        first_step, steps = self.episode.first_step, self.episode.steps
        config = settings.session_config(first_step, steps, self.episode.changes)
        trader = Trader(Session(config, settings.market), settings.symbols, settings.rules)
        fixed = settings.brackets[:1] * len(settings.symbols)
        for number, weights in enumerate(self.weights.tolist()):
            chosen = fixed
            if self.brackets is not None:
                chosen = tuple(settings.brackets[n] for n in self.brackets[number].tolist())
            trader.trade(weights, chosen)
            trader.advance()
        return trader.session
