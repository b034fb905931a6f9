"""Interventions where they happen: in the processes that step environments."""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.callbacks.callbacks import RLlibCallback

from raysafe.rl.masked_policy import INTENDED

KEPT = "raysafe_interventions"


class KeepInterventions(RLlibCallback):
    """Keeps a sample's interventions on the runner until `take` fetches them."""

    def on_sample_end(self, *, env_runner: Any, samples: list[Any], **kwargs: Any) -> None:
        kept = getattr(env_runner, KEPT, [])
        setattr(env_runner, KEPT, [*kept, *(row for episode in samples for row in interventions(episode))])


def take(env_runner: Any) -> list[dict[str, Any]]:
    """The rows since the last call."""
    kept = getattr(env_runner, KEPT, [])
    setattr(env_runner, KEPT, [])
    return kept


def interventions(episode: Any) -> list[dict[str, Any]]:
    """Rows of `masking.SCHEMA` of a piece of an episode; none where it was acted without exploring."""
    if INTENDED not in episode.extra_model_outputs:
        return []
    intended_T = np.asarray(episode.get_extra_model_outputs(INTENDED))
    done_T, obs_T1D = np.asarray(episode.get_actions()), np.asarray(episode.get_observations())
    return [
        {
            "episode": str(episode.id_),
            "time": int(episode.t_started + step),
            "observation": obs_T1D[step].tolist(),
            "intended": int(intended_T[step]),
            "done": int(done_T[step]),
        }
        for step in np.flatnonzero(intended_T != done_T)
    ]
