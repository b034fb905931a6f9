"""Recorded signals: a planted one is found again, one that isn't there is refused, and so is a shifted series."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from raysafe.errors import ConfigError, DataError
from raysafe.rl.environment import EnvMaker
from raysafe.rl.extension import TRUE_REWARD
from raysafe.rl.signal_env import SIGNAL
from raysafe.rl.signal_model import fit, read_signal
from raysafe.rl.signals import SignalsConfig

LENGTHS = [30, 40, 50, 20, 60, 25]


class Drift(gym.Env):
    """The observation is (t / 10, -t / 10); each step earns 1."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    render_mode = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.t = 0
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self._seen(), 1.0, False, self.t >= 10, {}

    def _seen(self) -> Any:
        return np.array([self.t / 10, -self.t / 10], dtype=np.float32)


def recorded(noise: float = 0.2, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Observations, and 70 + 8 x_0 - 5 x_1^2 measured with noise."""
    draw = np.random.default_rng(seed)
    seen = [draw.normal(size=(length, 2)) for length in LENGTHS]
    return seen, [70 + 8 * x[:, 0] - 5 * x[:, 1] ** 2 + noise * draw.normal(size=len(x)) for x in seen]


def written(folder: Path, signals: list[np.ndarray], seen: list[np.ndarray], shift: int = 0) -> dict[str, str]:
    rows = [
        {"observations": [*x.tolist(), [0.0, 0.0]], "actions": [0] * len(x), "rewards": [0.0] * len(x)} for x in seen
    ]
    (folder / "demos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rolled = [np.roll(signal, shift) for signal in signals]
    pq.write_table(series(rolled), folder / "heart.parquet")
    return {"trajectories": str(folder / "demos.jsonl"), "file": str(folder / "heart.parquet"), "column": "rate"}


def series(signals: list[np.ndarray]) -> pa.Table:
    number = np.concatenate([np.full(len(signal), n) for n, signal in enumerate(signals)])
    step = np.concatenate([np.arange(len(signal)) for signal in signals])
    return pa.table({"trajectory": number, "step": step, "rate": np.concatenate(signals)})


def maker_with(**given: Any) -> EnvMaker:
    held = SimpleNamespace(env_config={"maker": EnvMaker(f"{__name__}:Drift")})
    held.environment = lambda env_config: held.__dict__.update(env_config=env_config)
    SignalsConfig(**given).extension(None).apply(held)  # type: ignore[arg-type]
    return held.env_config["maker"]


def test_a_planted_signal_is_found_again() -> None:
    seen, signals = recorded()
    model = fit(seen, signals, ridge=1e-6)
    obs_BD = np.random.default_rng(9).normal(size=(200, 2))
    everything = np.concatenate(signals)
    told_B = model.predict(obs_BD) * everything.std() + everything.mean()
    assert np.abs(told_B - (70 + 8 * obs_BD[:, 0] - 5 * obs_BD[:, 1] ** 2)).max() < 0.5
    assert model.explained > 0.99


def test_the_share_that_is_explained_is_of_held_out_trajectories() -> None:
    """Noise of the signal's own size leaves half of the variance to be explained; pure noise none."""
    seen, signals = recorded(noise=0.0)
    size = float(np.concatenate(signals).std())
    assert fit(*recorded(noise=size), ridge=1.0).explained == pytest.approx(0.5, abs=0.12)
    draw = np.random.default_rng(3)
    assert fit(seen, [draw.normal(size=len(signal)) for signal in signals], ridge=1.0).explained < 0.05


def test_a_signal_is_earned_or_kept_near_its_target(tmp_path: Path) -> None:
    seen, signals = recorded()
    files = written(tmp_path, signals, seen)
    found = {}
    for use, more in (("reward", {}), ("reward", {"lower_is_better": True}), ("regulariser", {"target": 0.5})):
        env = maker_with(**files, use=use, weight=0.3, **more).make()
        env.reset()
        steps = [env.step(0) for _ in range(3)]
        assert {info[TRUE_REWARD] for *_, info in steps} == {1.0}
        told = [info[SIGNAL] for *_, info in steps]
        found[use, bool(more)] = [(float(reward) - 1) / 0.3 for _, reward, *_ in steps], told
    earned, told = found["reward", False]
    assert earned == pytest.approx(told) and told[0] < told[1] < told[2]
    assert found["reward", True][0] == pytest.approx([-signal for signal in told])
    assert found["regulariser", True][0] == pytest.approx([-((signal - 0.5) ** 2) for signal in told])


def test_evaluations_keep_the_true_reward(tmp_path: Path) -> None:
    seen, signals = recorded()
    env = maker_with(**written(tmp_path, signals, seen)).for_evaluation().make()
    env.reset()
    assert env.step(0)[1] == 1.0


def test_a_series_that_is_shifted_within_its_trajectories_explains_nothing_and_is_refused(tmp_path: Path) -> None:
    seen, signals = recorded()
    with pytest.raises(ConfigError, match="check the alignment"):
        SignalsConfig(**written(tmp_path, signals, seen, shift=1)).extension(None)  # type: ignore[arg-type]


def test_several_rows_of_a_step_count_by_their_mean_and_a_trajectory_may_have_none(tmp_path: Path) -> None:
    table = pa.table({"trajectory": [1, 1, 1, 1], "step": [0, 0, 1, 1], "rate": [1.0, 3.0, 5.0, 6.0]})
    pyarrow.feather.write_feather(table, tmp_path / "s.arrow")
    first, second = read_signal(str(tmp_path / "s.arrow"), "rate", [4, 2])
    assert first is None and second is not None and second.tolist() == [2.0, 5.5]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"trajectory": [0], "step": [0]}, "no column 'rate'; it has trajectory, step"),
        ({"trajectory": [0, 0], "step": [0, 2], "rate": [1.0, 2.0]}, "step 2 of trajectory 0, which has 2 steps"),
        ({"trajectory": [0], "step": [1], "rate": [1.0]}, "lacks step 0 of trajectory 0"),
        ({"trajectory": [7], "step": [0], "rate": [1.0]}, "names trajectory 7, and there are 1"),
        ({"trajectory": [0, 0], "step": [0, 1], "rate": [1.0, float("nan")]}, "not finite at trajectory 0, step 1"),
        ({"trajectory": [0, 0], "step": [0, 1], "rate": [1.0, None]}, "missing or not finite at trajectory 0, step 1"),
        ({"trajectory": [0.5], "step": [0], "rate": [1.0]}, "'trajectory' must be whole numbers"),
        ({"trajectory": [0], "step": [0], "rate": ["high"]}, "'rate' must be numbers"),
    ],
)
def test_what_is_not_aligned_is_named(columns: dict[str, list[Any]], message: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    with pytest.raises(DataError, match=message):
        read_signal(str(tmp_path / "s.parquet"), "rate", [2])


def test_files_and_signals_that_say_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.parquet").write_text("text")
    with pytest.raises(DataError, match="can't read"):
        read_signal(str(tmp_path / "s.parquet"), "rate", [2])
    seen, signals = recorded()
    with pytest.raises(DataError, match="the same at every step"):
        fit(seen, [np.zeros(len(x)) for x in seen], 1.0)
    with pytest.raises(DataError, match="two trajectories at least"):
        fit(seen[:1], signals[:1], 1.0)
