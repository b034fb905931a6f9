"""A policy as a backend for /v1/act: an action for each observation, and what it gives each of its actions."""

from __future__ import annotations

import numpy as np

from raysafe.errors import ConfigError
from raysafe.rl.policy import Actions, Policy
from raysafe.serving.backend import Move, PromptRefused, Scale, Situation
from raysafe.serving.batcher import Batcher
from raysafe.serving.vector_models import BATCH, Vector, WritesNothing, checked, finite


class PolicyModel(WritesNothing):
    """A Backend over a policy. Observations of several callers are computed together, and each caller draws alone, so
    that a seed gives the same actions whoever else asks."""

    def __init__(self, policy: Policy, *, max_waiting: int) -> None:
        self.policy = policy
        self._batcher: Batcher[Vector, Vector] = Batcher(self._outputs, max_batch=BATCH, max_waiting=max_waiting)

    async def act(self, situation: Situation) -> tuple[Move, ...]:
        vectors = [self._checked(observation) for observation in situation.observations]
        outputs_BK = np.asarray(await finite(self._batcher, vectors), dtype=np.float32)
        generator = np.random.default_rng(situation.seed)
        try:
            found = self.policy.decide(outputs_BK, deterministic=situation.deterministic, generator=generator)
        except ConfigError as error:
            raise PromptRefused(str(error), "invalid_value") from None
        return _moves(found)

    @property
    def alive(self) -> bool:
        return self._batcher.alive

    def close(self) -> None:
        self._batcher.close()

    def _checked(self, observation: Vector) -> Vector:
        vector = checked(observation, self.policy.network.config.inputs)
        card = self.policy.card
        fault = None if card is None else card.observations.fault(vector)
        if fault is not None:
            raise PromptRefused(f"an observation is not of the policy's space: {fault}", "invalid_input")
        return vector

    def _outputs(self, vectors: list[Vector]) -> list[Vector]:
        with np.errstate(over="ignore"):
            # an overflow shows in the outputs
            obs_BD = np.asarray(vectors, dtype=np.float32)
        return [tuple(outputs_K) for outputs_K in self.policy.outputs(obs_BD).tolist()]


def _moves(found: Actions) -> tuple[Move, ...]:
    actions: list[int] | list[list[float]] = found.actions.tolist()
    scale: Scale = "probabilities" if found.values_BA is None else "values"
    scores_BA = found.probabilities_BA if found.values_BA is None else found.values_BA
    rows = [None] * len(actions) if scores_BA is None else [tuple(scores_A) for scores_A in scores_BA.tolist()]
    return tuple(
        Move(action if isinstance(action, int) else tuple(action), scores, scale)
        for action, scores in zip(actions, rows, strict=True)
    )
