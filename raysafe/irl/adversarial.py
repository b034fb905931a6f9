"""Adversarial imitation: AIRL (Fu, Luo & Levine 2018) and GAIL (Ho & Ermon 2016), for environments without a model.

A discriminator tells the expert's steps from the agent's, its logit is the agent's reward, and PPO makes the agent
harder to tell. Nothing here sees the environment's own reward; metrics and evaluations alone do.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from raysafe.data.trajectories import Trajectory
from raysafe.errors import DataError, TrainingError
from raysafe.irl.discriminator import Discriminator, Figures, Objective, Transitions, transitions_of
from raysafe.irl.settings import AdversarialSettings
from raysafe.models.mlp import save_mlp
from raysafe.rl.extension import Extension, add_callback, add_learner_connector
from raysafe.rl.transitions import TransitionShape, flatten_observations, shape_of

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    from raysafe.rl.environment import EnvMaker


class AdversarialExtension(Extension):
    """Puts the discriminator's logit in place of the reward, and fits it after each iteration."""

    def __init__(
        self,
        settings: AdversarialSettings,
        objective: Objective,
        demonstrations: Sequence[Trajectory],
        *,
        gamma: float,
        steps: int,
        seed: int,
    ) -> None:
        """steps: of the environment, over which the discriminator's learning rate falls to 0.

        Raises DataError for demonstrations without observations.
        """
        if any(one.obs_T1D is None for one in demonstrations):
            raise DataError("adversarial imitation needs observations: the demonstrations have states alone")
        self.settings, self.gamma, self.steps, self.seed = settings, gamma, steps, seed
        self.objective: Objective = objective
        self.demonstrations = list(demonstrations)
        self.replayed: deque[list[tuple[Trajectory, NDArray[Any]]]] = deque(maxlen=settings.replay)
        """Pieces of the agent's episodes, and the policy's own actions in them, before bounds."""
        self.ended: deque[tuple[int, bool]] = deque(maxlen=settings.episodes)
        """Length of each of the agent's latest episodes, and whether it reached a terminal state."""
        self.going: dict[str, int] = {}
        self._draw = torch.Generator().manual_seed(seed)
        self._discriminator: Discriminator | None = None

    @property
    def discriminator(self) -> Discriminator:
        assert self._discriminator is not None, "the extension hasn't been applied"
        return self._discriminator

    def apply(self, config: AlgorithmConfig) -> None:
        """Raises ConfigError for an environment, DataError for demonstrations of another one."""
        from raysafe.irl.adversarial_connector import AdversarialConnector, policy_actions
        from raysafe.rl.reward_connector import Actions, GatherSteps

        maker: EnvMaker = config.env_config["maker"]
        env = maker.make()
        self._observations, actions, spec = env.observation_space, env.action_space, env.spec
        env.close()
        self.horizon = spec.max_episode_steps if spec is not None else None
        self.shape = shape_of(self._observations, actions, self.settings.sees)
        check_demonstrations(self.demonstrations, self.shape, maker.name)
        self.expert = transitions_of(self.demonstrations, self.shape, horizon=self.horizon, gamma=self.gamma)
        self._to_env = Actions(actions, normalised=bool(config.normalize_actions), clipped=bool(config.clip_actions))
        shown_N = np.concatenate([one.actions_T for one in self.demonstrations])
        self.expert_actions = policy_actions(self._to_env, shown_N)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._discriminator = Discriminator(
                self.shape,
                self.expert,
                objective=self.objective,
                gamma=self.gamma,
                hidden=self.settings.hidden,
                activation=self.settings.activation,
                shaped=self.settings.shaped and self.objective == "airl",
            )
        self.optimiser = torch.optim.AdamW(
            self._discriminator.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        observations, to_env = self._observations, self._to_env
        rewards = DiscriminatorRewards(self._discriminator, self.shape)
        add_learner_connector(config, lambda *_: AdversarialConnector(observations, to_env, rewards))
        add_callback(config, GatherSteps)

    def after_iteration(self, algorithm: Algorithm, step: int) -> Mapping[str, float]:
        """Gather what the agent did, tell it from the expert, and hand the new reward to the learners."""
        self._gather(algorithm)
        pieces = [piece for part in self.replayed for piece in part]
        if not pieces:
            return {}
        agent = transitions_of([piece for piece, _ in pieces], self.shape, horizon=None, gamma=0.0)
        agent = replace(agent, absorbed=self.absorbed())
        actions_N = np.concatenate([actions for _, actions in pieces])
        module = algorithm.get_module()
        logps = (
            log_probabilities(module, self.expert.obs_ND, self.expert_actions),
            log_probabilities(module, agent.obs_ND, actions_N),
        )
        # two that learn against each other settle only where both step less and less
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * max(0.0, 1 - step / self.steps)
        figures = self.fit(agent, *logps)
        learners: Any = algorithm.learner_group
        learners.foreach_learner(_Update(self._arrays()))
        return {f"discriminator/{name}": value for name, value in figures._asdict().items()} | {
            "discriminator/absorbing": self.discriminator.absorbing.item()
        }

    def fit(self, agent: Transitions, expert_logps: torch.Tensor, agent_logps: torch.Tensor) -> Figures:
        """Some updates on random steps of both; raises TrainingError for a loss that isn't finite."""
        size = self.settings.batch_size
        for _ in range(self.settings.updates):
            expert_rows = torch.randint(len(self.expert), (size,), generator=self._draw)
            agent_rows = torch.randint(len(agent), (size,), generator=self._draw)
            self.optimiser.zero_grad()
            loss = self.discriminator.loss(
                self.expert.take(expert_rows),
                expert_logps[expert_rows],
                agent.take(agent_rows),
                agent_logps[agent_rows],
            )
            if not torch.isfinite(loss):
                raise TrainingError("the discriminator's loss is not finite: lower adversarial.learning_rate")
            loss.backward()
            self.optimiser.step()
        return self.discriminator.figures(self.expert, expert_logps, agent, agent_logps)

    def absorbed(self) -> float:
        """Share of its episodes' time, up to the horizon, that the agent spends in the absorbing state."""
        moving = sum(length for length, _ in self.ended)
        lasting = self.gamma / (1 - self.gamma)
        still = sum(max(0, self.horizon - length) if self.horizon else lasting for length, over in self.ended if over)
        return still / (still + moving) if moving else 0.0

    def state(self) -> dict[str, Any]:
        # episodes begin anew at a checkpoint, and so does what is remembered of them: a resumed run finds the same
        self.replayed.clear()
        self.going.clear()
        moments = {
            str(number): {name: np.asarray(value) for name, value in kept.items()}
            for number, kept in self.optimiser.state_dict()["state"].items()
        }
        return {
            "networks": self._arrays(),
            "moments": moments,
            "draw": self._draw.get_state().numpy(),
            "ended": [[length, int(over)] for length, over in self.ended],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        _load(self.discriminator, state["networks"])
        kept = self.optimiser.state_dict()
        kept["state"] = {
            int(number): {name: torch.tensor(np.asarray(value)) for name, value in values.items()}
            for number, values in state["moments"].items()
        }
        self.optimiser.load_state_dict(kept)
        self._draw.set_state(torch.from_numpy(np.asarray(state["draw"], dtype=np.uint8).copy()))
        self.ended.extend((int(length), bool(over)) for length, over in state["ended"])

    def save(self, folder: str | Path) -> None:
        """The reward's networks, g/ and where there is one h/ (models/mlp.py), and adversarial.json."""
        discriminator = self.discriminator
        save_mlp(discriminator.g, Path(folder, "g"))
        if discriminator.h is not None:
            save_mlp(discriminator.h, Path(folder, "h"))
        kept = {
            "objective": self.objective,
            "gamma": self.gamma,
            "shape": self.shape.model_dump(mode="json"),
            "absorbing": discriminator.absorbing.item(),
        }
        Path(folder, "adversarial.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")

    def _gather(self, algorithm: Algorithm) -> None:
        """Keep what was sampled since the last time."""
        from raysafe.rl.reward_connector import take_chunks

        group = algorithm.env_runner_group
        assert group is not None
        part = []
        for chunks in group.foreach_env_runner(take_chunks):
            for episode, obs, actions, _, terminated, truncated in chunks or []:
                obs_T1D = flatten_observations(self._observations, obs)
                seen = Trajectory(actions_T=self._to_env(actions), obs_T1D=obs_T1D, terminated=bool(terminated))
                part.append((seen, actions))
                length = self.going.pop(episode, 0) + len(actions)
                if terminated or truncated:
                    self.ended.append((length, bool(terminated)))
                else:
                    self.going[episode] = length
        self.replayed.append(part)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {name: tensor.detach().numpy().copy() for name, tensor in self.discriminator.state_dict().items()}


class DiscriminatorRewards:
    """The discriminator's rewards of an episode's steps; 0 until it has been fitted."""

    def __init__(self, discriminator: Discriminator, shape: TransitionShape) -> None:
        self.discriminator, self.shape = discriminator, shape

    def __call__(
        self,
        obs_TD: NDArray[np.float32],
        actions_T: NDArray[Any],
        next_obs_TD: NDArray[np.float32],
        terminated_T: NDArray[np.float32],
        logps_T: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        steps = Transitions(
            torch.from_numpy(self.shape.encode(obs_TD, actions_T, next_obs_TD)),
            torch.from_numpy(obs_TD),
            torch.from_numpy(next_obs_TD),
            torch.from_numpy(terminated_T),
            0.0,
        )
        return self.discriminator.rewards(steps, torch.from_numpy(logps_T))


class _Update:
    """Puts the networks' arrays into a learner's connector."""

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.arrays = arrays

    def __call__(self, learner: Any, **_: Any) -> None:
        from raysafe.irl.adversarial_connector import AdversarialConnector

        for connector in learner._learner_connector.connectors:
            if isinstance(connector, AdversarialConnector):
                _load(connector.rewards.discriminator, self.arrays)


def _load(discriminator: Discriminator, arrays: Mapping[str, NDArray[Any]]) -> None:
    discriminator.load_state_dict({name: torch.tensor(np.asarray(array)) for name, array in arrays.items()})


@torch.no_grad()
def log_probabilities(module: Any, obs_ND: torch.Tensor, actions_N: NDArray[Any]) -> torch.Tensor:
    """(N,): log pi(action | observation) of an RLlib module, by the distribution that it explores with."""
    outputs = module.forward_exploration({"obs": obs_ND})
    distribution = module.get_exploration_action_dist_cls().from_logits(outputs["action_dist_inputs"])
    return distribution.logp(torch.from_numpy(actions_N)).float()


def check_demonstrations(demonstrations: Sequence[Trajectory], shape: TransitionShape, env: str) -> None:
    """Raise DataError where demonstrations aren't of an environment of this shape."""
    first = demonstrations[0]
    assert first.obs_T1D is not None
    if first.obs_T1D.shape[1] != shape.obs_features:
        raise DataError(
            f"an observation of the demonstrations has {first.obs_T1D.shape[1]} numbers, one of {env} "
            f"{shape.obs_features}: name the environment that they were made in"
        )
    if first.discrete != (shape.actions is not None):
        kinds = ("numbers", "vectors") if first.discrete else ("vectors", "numbers")
        raise DataError(f"the demonstrations' actions are {kinds[0]}, those of {env} {kinds[1]}")
    if shape.actions is not None and max(int(one.actions_T.max()) for one in demonstrations) >= shape.actions:
        most = max(int(one.actions_T.max()) for one in demonstrations)
        raise DataError(f"the demonstrations have action {most}, {env} has {shape.actions}, counted from 0")
