"""A loop of the shape of CleanRL's PPO, over a vectorised environment that resets in the same step.

CleanRL's scripts are copied and changed rather than imported. This one has their parts: a rollout
into tensors, returns of episodes from ``RecordEpisodeStatistics``, the bootstrap of truncated
episodes from ``final_obs``, generalised advantages, and clipped updates. Run by ``make rl-check``.
"""

from typing import Any

import numpy as np
import torch
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from torch import nn

from candlestep.sandbox.envs import TargetVectorEnv
from tests.support.environments import MARKET

COUNT, STEPS, UPDATES = 8, 64, 4
GAMMA, LAMBDA, CLIP = 0.99, 0.95, 0.2


class Agent(nn.Module):  # type: ignore[misc, unused-ignore]
    """A value and the logits of the actions."""

    def __init__(self, size: int, actions: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(size, 32), nn.Tanh())
        self.value, self.logits = nn.Linear(32, 1), nn.Linear(32, actions)

    def forward(self, observations: Any) -> Any:
        """Return the distribution of actions, and the values."""
        hidden = self.body(observations)
        distribution = torch.distributions.Categorical(logits=self.logits(hidden))
        return distribution, self.value(hidden).squeeze(-1)


def main() -> None:
    """Train for a few updates, and check what the loop relies on."""
    torch.manual_seed(1)
    settings: Any = {"window": 4, "episode_steps": 50, "autoreset_mode": "same_step"}
    envs = RecordEpisodeStatistics(TargetVectorEnv(MARKET, COUNT, reward_scale=100.0, **settings))
    size = int(np.prod(envs.single_observation_space.shape or ()))
    agent = Agent(size, int(envs.single_action_space.n))  # type: ignore[attr-defined]
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3)
    observation = torch.as_tensor(envs.reset(seed=1)[0])
    episodes = 0
    for _ in range(UPDATES):
        rollout: list[tuple[Any, ...]] = []
        for _ in range(STEPS):
            with torch.no_grad():
                distribution, values = agent(observation)
                actions = distribution.sample()
            following, rewards, terminations, truncations, infos = envs.step(actions.numpy())
            rewards = rewards.astype(np.float32)
            done = terminations | truncations
            if done.any():
                episodes += int(done.sum())
                assert (infos["_final_obs"] == done).all()
                assert (infos["episode"]["l"][done] <= 50).all()
                for number in np.flatnonzero(truncations):
                    with torch.no_grad():
                        last = torch.as_tensor(infos["final_obs"][number])
                        rewards[number] += GAMMA * float(agent(last[None])[1])
            rollout.append(
                (
                    observation,
                    actions,
                    distribution.log_prob(actions),
                    values,
                    torch.as_tensor(rewards),
                    torch.as_tensor(done, dtype=torch.float32),
                )
            )
            observation = torch.as_tensor(following)
        _update(agent, optimizer, rollout, observation)
    assert episodes == COUNT * (UPDATES * STEPS // 50)
    print(f"CleanRL's shape: {UPDATES * STEPS * COUNT} steps, {episodes} episodes")


def _update(agent: Agent, optimizer: Any, rollout: list[tuple[Any, ...]], following: Any) -> None:
    observations, actions, logs, values, rewards, dones = (
        torch.stack(column) for column in zip(*rollout, strict=True)
    )
    with torch.no_grad():
        after = agent(following)[1]
    advantages = torch.zeros_like(rewards)
    carried = torch.zeros(COUNT)
    for step in reversed(range(STEPS)):
        errors = rewards[step] + GAMMA * after * (1 - dones[step]) - values[step]
        carried = errors + GAMMA * LAMBDA * (1 - dones[step]) * carried
        advantages[step], after = carried, values[step]
    returns = advantages + values
    for _ in range(2):
        distribution, new_values = agent(observations)
        ratio = (distribution.log_prob(actions) - logs).exp()
        clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
        policy = -torch.min(ratio * advantages, clipped * advantages).mean()
        loss = policy + ((new_values - returns) ** 2).mean() - 0.01 * distribution.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)


if __name__ == "__main__":
    main()
