"""A reward learned from comparisons of trajectories: an ensemble of small networks under Bradley and Terry's loss.

After Christiano et al. (2017): the preference for a over b is sigmoid(sum of a's rewards - sum of b's), each member
learns from its own bootstrap sample, and rewards are normalised over what the agent does. Labels may be soft, ties 0.5.
Preferences between pieces of the same length say nothing about a constant added to each step's reward.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, stack_module_state

from raysafe.alignment.losses import bradley_terry_loss
from raysafe.data.comparisons import Comparison
from raysafe.data.trajectories import Trajectory
from raysafe.errors import ModelError, TrainingError
from raysafe.models.mlp import Mlp, MlpConfig, ScalarHead, load_mlp, save_mlp
from raysafe.rl.learned_reward import PreferenceModelConfig
from raysafe.rl.transitions import TransitionShape

_LEAST_STD = 1e-3
_STATE = "preference_model.json"


class Fit(NamedTuple):
    """What a fit came to."""

    loss: float
    accuracy: float
    """Share of the fitted comparisons that the ensemble orders as the rater did, ties aside."""
    held_out_loss: float
    held_out_accuracy: float
    """Of comparisons that no member saw; nan where there are none."""


class PreferenceModel:
    """Rewards of steps. `shape` says what a step looks like."""

    def __init__(self, config: PreferenceModelConfig, shape: TransitionShape, *, seed: int = 0) -> None:
        self.config, self.shape, self.seed = config, shape, seed
        self.networks = self._fresh()
        self.mean_M = np.zeros(config.members)
        self.std_M = np.ones(config.members)
        self.fits = 0

    def rewards(self, steps_NF: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N,): the members' mean, normalised."""
        return self.member_rewards(steps_NF).mean(axis=0)

    def member_rewards(self, steps_NF: NDArray[np.float32]) -> NDArray[np.float64]:
        """(M, N), normalised."""
        shift_M1 = self.mean_M[:, None] if self.config.normalise == "standard" else 0.0
        return (self._raw(steps_NF) - shift_M1) / self.std_M[:, None]

    def returns(self, fragments: Sequence[Trajectory]) -> NDArray[np.float64]:
        """(M, N): undiscounted sums of each member's own rewards, in the units in which it predicts preferences."""
        steps = [self.shape.encode_trajectory(fragment) for fragment in fragments]
        raw_MN = self._raw(np.concatenate(steps))
        starts = np.cumsum([0, *(len(part) for part in steps[:-1])])
        return np.add.reduceat(raw_MN, starts, axis=1)

    def normalised(self, fragment: Trajectory) -> NDArray[np.float32]:
        """(T, features): steps as the networks see them after their normalisation."""
        state = self.networks[0].observation
        mean, std = (state.get_buffer(name).numpy() for name in ("mean", "std"))
        return ((self.shape.encode_trajectory(fragment) - mean) / std).astype(np.float32)

    def fit(self, comparisons: Sequence[Comparison], seen: Sequence[Trajectory]) -> Fit:
        """Fit fresh networks to all comparisons, then normalise over `seen`, what the agent does now.

        Raises TrainingError where a loss isn't finite.
        """
        if not comparisons:
            raise TrainingError("there is no comparison to learn a reward from")
        self.fits += 1
        data = _Data.of(comparisons, self.shape)
        kept_N, held_N = self._split(len(comparisons))
        self.networks = self._fresh(data.steps_NLF[data.real_NL])
        loss = self._train(data, kept_N)
        self.calibrate(seen)
        gaps_N = (lambda returns: returns[:, 0::2] - returns[:, 1::2])(
            self.returns([side for found in comparisons for side in (found.a, found.b)])
        ).mean(axis=0)
        wanted_N = data.preferences_N.numpy()
        return Fit(
            loss,
            _accuracy(gaps_N[kept_N], wanted_N[kept_N]),
            _loss(gaps_N[held_N], wanted_N[held_N]),
            _accuracy(gaps_N[held_N], wanted_N[held_N]),
        )

    def calibrate(self, seen: Sequence[Trajectory]) -> None:
        """Normalise over the steps of these fragments."""
        if seen:
            raw_MN = self._raw(np.concatenate([self.shape.encode_trajectory(one) for one in seen]))
            self.mean_M, self.std_M = raw_MN.mean(axis=1), np.maximum(raw_MN.std(axis=1), _LEAST_STD)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that changes, as arrays by name."""
        arrays = {
            f"{member}.{name}": tensor.detach().cpu().numpy().copy()
            for member, network in enumerate(self.networks)
            for name, tensor in network.state_dict().items()
        }
        return arrays | {"mean": self.mean_M.copy(), "std": self.std_M.copy(), "fits": np.array(self.fits)}

    def set_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        """The reverse of `state`; raises ModelError where it is another ensemble's."""
        for member, network in enumerate(self.networks):
            prefix = f"{member}."
            own = {name[len(prefix) :]: np.asarray(a) for name, a in arrays.items() if name.startswith(prefix)}
            wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
            if {name: a.shape for name, a in own.items()} != wanted:
                raise ModelError("the kept reward model has another shape than the settings ask for")
            network.load_state_dict({name: torch.tensor(a) for name, a in own.items()})
        self.mean_M, self.std_M = np.array(arrays["mean"]), np.array(arrays["std"])
        self.fits = int(arrays["fits"])

    def save(self, folder: str | Path) -> None:
        """A folder a member (safetensors, see models/mlp.py), and preference_model.json."""
        for member, network in enumerate(self.networks):
            save_mlp(network, Path(folder, f"member-{member}"))
        state = {
            "config": self.config.model_dump(mode="json"),
            "shape": self.shape.model_dump(mode="json"),
            "mean": self.mean_M.tolist(),
            "std": self.std_M.tolist(),
            "seed": self.seed,
            "fits": self.fits,
        }
        Path(folder, _STATE).write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> PreferenceModel:
        """Raises ModelError or ConfigError where the folder isn't what it says."""
        path = Path(folder, _STATE)
        try:
            state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            mean, std = (np.asarray(state[name], dtype=np.float64) for name in ("mean", "std"))
            parts, seed, fits = [state[name] for name in ("config", "shape")], int(state["seed"]), int(state["fits"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"can't read {path}: {error}") from None
        config = PreferenceModelConfig.parse(parts[0], str(path))
        model = cls(config, TransitionShape.parse(parts[1], str(path)), seed=seed)
        if (
            mean.shape != (config.members,)
            or std.shape != mean.shape
            or not (np.isfinite(mean).all() and std.min() > 0)
        ):
            raise ModelError(f"{path}: mean and std must be {config.members} finite numbers each, std above 0")
        networks = [load_mlp(Path(folder, f"member-{member}")) for member in range(config.members)]
        if any(network.config != model.networks[0].config for network in networks):
            raise ModelError(f"{folder}: a member has another shape than {_STATE} says")
        model.networks, model.mean_M, model.std_M, model.fits = networks, mean, std, fits
        return model

    def _fresh(self, steps_NF: Tensor | None = None) -> list[Mlp]:
        """Untrained members, which differ in their weights; inputs are normalised over the steps."""
        shape = MlpConfig(
            inputs=self.shape.features,
            hidden=self.config.hidden,
            activation=self.config.activation,
            normalise=True,
            head=ScalarHead(),
        )
        networks = []
        with torch.random.fork_rng(devices=[]):
            for member in range(self.config.members):
                torch.manual_seed(self.seed * 1009 + member)
                network = Mlp(shape).eval()
                if steps_NF is not None:
                    std_F = steps_NF.std(dim=0, correction=0)
                    network.observation.get_buffer("mean").copy_(steps_NF.mean(dim=0))
                    # what never varied in the comparisons must not be blown up when it does
                    network.observation.get_buffer("std").copy_(torch.where(std_F > _LEAST_STD, std_F, 1.0))
                networks.append(network)
        return networks

    def _split(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Comparisons to learn from and to measure on; those of earlier fits stay where they were."""
        draws_N = np.random.default_rng(self.seed).random(count)
        return np.flatnonzero(draws_N >= self.config.held_out), np.flatnonzero(draws_N < self.config.held_out)

    def _train(self, data: _Data, kept_N: NDArray[np.int64]) -> float:
        """All members in one stack; returns the mean loss of the last epoch."""
        config = self.config
        draw = np.random.default_rng((self.seed, self.fits))
        sample = draw.choice if config.bootstrap and config.members > 1 else lambda rows, size: rows
        rows_MN = np.stack([sample(kept_N, size=len(kept_N)) for _ in range(config.members)])
        parameters, buffers = stack_module_state(list(self.networks))
        base = copy.deepcopy(self.networks[0]).to("meta")
        optimiser = torch.optim.AdamW(parameters.values(), lr=config.learning_rate, weight_decay=config.weight_decay)
        steps = config.epochs * -(-len(kept_N) // config.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)

        def forward(weights: Any, constants: Any, inputs: Tensor) -> Tensor:
            return functional_call(base, (weights, constants), (inputs,))

        loss = float("nan")
        for _ in range(config.epochs):
            rows_MN = np.stack([draw.permutation(rows_N) for rows_N in rows_MN])
            losses = []
            for start in range(0, rows_MN.shape[1], config.batch_size):
                rows_MB = torch.from_numpy(rows_MN[:, start : start + config.batch_size])
                steps_MBLF, real_MBL, wanted_MB = data.take(rows_MB)
                rewards_MBL = torch.vmap(forward)(parameters, buffers, steps_MBLF)[..., 0]
                returns_MB = (rewards_MBL * real_MBL).sum(dim=-1)
                loss_M = preference_loss(returns_MB[:, 0::2], returns_MB[:, 1::2], wanted_MB, config.label_smoothing)
                optimiser.zero_grad()
                loss_M.mean(dim=1).sum().backward()
                optimiser.step()
                schedule.step()
                losses.append(float(loss_M.detach().mean()))
            loss = float(np.mean(losses))
            if not np.isfinite(loss):
                raise TrainingError("the loss of the learned reward is not finite: lower its learning_rate")
        for member, network in enumerate(self.networks):
            network.load_state_dict(
                {name: stacked[member].detach() for name, stacked in (*parameters.items(), *buffers.items())}
            )
        return loss

    @torch.no_grad()
    def _raw(self, steps_NF: NDArray[np.float32]) -> NDArray[np.float64]:
        """(M, N): outputs of the networks."""
        inputs = torch.from_numpy(np.ascontiguousarray(steps_NF))
        return np.stack([network(inputs)[:, 0].numpy().astype(np.float64) for network in self.networks])


def preference_loss(a_B: Tensor, b_B: Tensor, preferences_B: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each preference (1: a, 0: b) under sigmoid(a - b), same shape as the arguments.

    Smoothing moves each preference towards 0.5, by that share of the way on either side.
    """
    wanted_B = preferences_B * (1 - 2 * label_smoothing) + label_smoothing
    return wanted_B * bradley_terry_loss(a_B, b_B) + (1 - wanted_B) * bradley_terry_loss(b_B, a_B)


class _Data(NamedTuple):
    """2N fragments, a and b of each comparison in turn, padded to the longest."""

    steps_NLF: Tensor
    real_NL: Tensor
    preferences_N: Tensor

    @classmethod
    def of(cls, comparisons: Sequence[Comparison], shape: TransitionShape) -> _Data:
        encoded = [shape.encode_trajectory(side) for found in comparisons for side in (found.a, found.b)]
        longest = max(map(len, encoded))
        steps_NLF = torch.zeros(len(encoded), longest, shape.features)
        real_NL = torch.zeros(len(encoded), longest, dtype=torch.bool)
        for row, steps in enumerate(encoded):
            steps_NLF[row, : len(steps)] = torch.from_numpy(steps)
            real_NL[row, : len(steps)] = True
        return cls(steps_NLF, real_NL, torch.tensor([found.preference for found in comparisons]))

    def take(self, rows_MB: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(steps (M, 2B, L, F), which of them are real, preferences (M, B))."""
        sides = torch.stack([2 * rows_MB, 2 * rows_MB + 1], dim=-1).flatten(1)
        return self.steps_NLF[sides], self.real_NL[sides], self.preferences_N[rows_MB]


def _accuracy(gaps_N: NDArray[np.float64], preferences_N: NDArray[Any]) -> float:
    clear_N = preferences_N != 0.5
    if not clear_N.any():
        return float("nan")
    return float(((gaps_N > 0) == (preferences_N > 0.5))[clear_N].mean())


def _loss(gaps_N: NDArray[np.float64], preferences_N: NDArray[Any]) -> float:
    if not len(gaps_N):
        return float("nan")
    wanted_N = preferences_N
    return float((wanted_N * np.logaddexp(0, -gaps_N) + (1 - wanted_N) * np.logaddexp(0, gaps_N)).mean())
