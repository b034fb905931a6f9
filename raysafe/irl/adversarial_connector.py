"""RLlib's side of adversarial imitation: rewards that also depend on how likely an action was and whether it ended all.

Imported where Ray is at hand anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns
from ray.rllib.utils.spaces.space_utils import normalize_action

from raysafe.rl.reward_connector import Actions, RewardConnector

if TYPE_CHECKING:
    from raysafe.irl.adversarial import DiscriminatorRewards


class AdversarialConnector(RewardConnector):
    """Steps with two more columns: whether they ended the episode, and log pi(action | observation) as it was drawn."""

    def __init__(self, observation_space: gym.Space, actions: Actions, rewards: DiscriminatorRewards) -> None:
        super().__init__(observation_space, actions, rewards)  # type: ignore[arg-type] - of two more columns
        self.rewards = rewards

    def _steps(self, episode: Any, steps: int) -> tuple[NDArray[Any], ...]:
        terminated_T = np.zeros(steps, dtype=np.float32)
        terminated_T[-1:] = float(episode.is_terminated)
        logps_T = np.asarray(episode.get_extra_model_outputs(Columns.ACTION_LOGP, slice(0, steps)), dtype=np.float32)
        return *super()._steps(episode, steps), terminated_T, logps_T


def policy_actions(to_env: Actions, actions_N: NDArray[Any]) -> NDArray[Any]:
    """What the policy would have had to choose for the environment to get these actions."""
    if isinstance(to_env.space, gym.spaces.Box) and to_env.normalised:
        return np.asarray(normalize_action(actions_N, to_env.space))
    return actions_N
