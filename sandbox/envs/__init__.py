"""Environments for reinforcement learning over the exchange, equal to its ledger to the last digit.

Importing this package registers ``Candlestep/Target-v0``, ``Candlestep/Bracket-v0`` and
``Candlestep/Orders-v0`` with Gymnasium, the extra ``rl``. ``TargetEnv`` and ``BracketEnv`` drive a
``Session``, ``TargetVectorEnv`` and ``BracketVectorEnv`` a ``Batch`` of accounts.
"""

import gymnasium

from candlestep.sandbox.envs.episodes import Episode
from candlestep.sandbox.envs.orders import OrdersEnv
from candlestep.sandbox.envs.played import PlayedEpisode
from candlestep.sandbox.envs.rewards import Equities
from candlestep.sandbox.envs.single import BracketEnv, TargetEnv
from candlestep.sandbox.envs.vector import BracketVectorEnv, TargetVectorEnv

__all__ = [
    "BracketEnv",
    "BracketVectorEnv",
    "Episode",
    "Equities",
    "OrdersEnv",
    "PlayedEpisode",
    "TargetEnv",
    "TargetVectorEnv",
]

for _name in ("Target", "Bracket"):
    gymnasium.register(
        f"Candlestep/{_name}-v0",
        entry_point=f"candlestep.sandbox.envs.single:{_name}Env",
        vector_entry_point=f"candlestep.sandbox.envs.vector:{_name}VectorEnv",
    )
gymnasium.register("Candlestep/Orders-v0", entry_point="candlestep.sandbox.envs.orders:OrdersEnv")
