"""Environments whose frames are judged, and the extension that puts them in a training (judge_reward.py)."""

from __future__ import annotations

import base64
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from raysafe.errors import ConfigError, ModelError, TrainingError
from raysafe.judges.blocking import wait_for
from raysafe.rl.extension import TRUE_REWARD, Extension, wrap_env
from raysafe.rl.judge_reward import JudgeRewardConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    from raysafe.judges.judge import Judge

JUDGED = "judge_score"
"""Where `info` tells a frame's score, from 0 to 1, at the steps that were judged."""
_SCORE = re.compile(r"\s*(?:score\s*[:=]\s*)?([0-9]+(?:\.[0-9]+)?)\s*(?:/\s*([0-9]+))?\s*\.?\s*", re.IGNORECASE)
_FORM = "Answer with one number from 0 (not at all) to {top} (entirely), and nothing else."


class JudgeReward(Extension):
    """The Extension: a wrapper around each environment that is trained in; evaluations keep the true reward alone."""

    def __init__(self, config: JudgeRewardConfig, runners: int = 1) -> None:
        """Raises ConfigError where a budget is smaller than the processes that share it."""
        if config.budget < runners:
            raise ConfigError(f"judge_reward.budget {config.budget} is less than a frame for each of {runners} runners")
        self.config, self._key = config, secrets.token_hex(8)
        self._runners, self._share = runners, config.budget // runners
        self._spent = 0
        self._resumed: int | None = None

    def apply(self, algorithm: AlgorithmConfig) -> None:  # type: ignore[override]
        maker = algorithm.env_config["maker"]
        # frames are rendered where they are judged
        maker = replace(maker, options={**maker.options, "render_mode": "rgb_array"})
        algorithm.environment(env_config={"maker": maker})
        wrap_env(algorithm, _Wrapping(self.config, self._key, self._share), evaluated=False)

    def after_iteration(self, algorithm: Algorithm, step: int) -> Mapping[str, float]:
        key, spent = self._key, self._resumed
        assert algorithm.env_runner_group is not None
        if spent is not None:
            # what was paid before this process began
            share = -(-spent // self._runners)
            algorithm.env_runner_group.foreach_env_runner(lambda runner: _charge(key, share))
            self._resumed = None
        found = algorithm.env_runner_group.foreach_env_runner(lambda runner: _told(key))
        self._spent = sum(asked for asked, _, _ in found)
        judged, total = sum(judged for _, judged, _ in found), sum(total for _, _, total in found)
        values = {"judge_frames_asked": float(self._spent)}
        return {**values, "judge_score": total / judged} if judged else values

    def state(self) -> dict[str, Any]:
        return {"spent": self._spent}

    def set_state(self, state: dict[str, Any]) -> None:
        """What was paid before is charged once the first iteration is over; in this process at once."""
        spent = int(state["spent"])
        if self._key in _TALLIES and self._runners == 1:
            _TALLIES[self._key].judge.asked = spent
        else:
            self._resumed = spent
        self._spent = spent


class FrameJudge:
    """Scores frames by one question, within a budget of frames that aren't in the cache."""

    def __init__(self, config: JudgeRewardConfig, budget: int, judge: Judge | None = None) -> None:
        self.config, self.budget, self.asked = config, budget, 0
        self._judge = judge or config.judge.build()
        self._known: dict[bytes, float] = {}

    def score(self, frame_HWC: NDArray[np.uint8]) -> float | None:
        """From 0 to 1; None where the budget is spent and that ends nothing.

        Raises TrainingError where it does, ModelError where the judge fails or answers no score.
        """
        image = png_of(frame_HWC)
        known = self._known.get(image)
        if known is not None:
            return known
        if self.asked >= self.budget:
            if self.config.when_spent == "zero":
                return None
            raise TrainingError(
                f"the judge was asked about {self.asked:,} frames, which is the budget of this process: raise "
                "judge_reward.budget or judge_reward.every, or set when_spent to zero"
            )
        self.asked += 1
        text = f"{self.config.question}\n{_FORM.format(top=self.config.top)}"
        url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
        content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
        # the message's content is of parts, not a text: endpoints of vision models take both
        message: Any = {"role": "user", "content": content}
        [answer] = wait_for(self._judge.generate([[message]], max_tokens=8))
        found = self._known[image] = read_score(answer, self.config.top)
        return found


class JudgedEnv(gym.Wrapper):
    """Adds the judge's score, times the weight, at every n-th step and at an episode's end."""

    def __init__(self, env: gym.Env, config: JudgeRewardConfig, judge: FrameJudge, tally: _Tally) -> None:
        """Raises ConfigError where the environment renders no RGB frames."""
        super().__init__(env)
        if env.render_mode != "rgb_array":
            raise ConfigError(
                f"judge_reward needs an environment that renders frames (render_mode rgb_array), and {env} doesn't"
            )
        self.config, self.judge, self.tally = config, judge, tally
        self._steps = 0

    def reset(self, **given: Any) -> Any:
        self._steps = 0
        return self.env.reset(**given)

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        info = {TRUE_REWARD: float(reward), **info}
        given = 0.0 if self.config.replaces else float(reward)
        if self._steps % self.config.every == 0 or terminated or truncated:
            score = self.judge.score(np.asarray(self.env.render(), dtype=np.uint8))
            if score is not None:
                given += self.config.weight * score
                self.tally.judged += 1
                self.tally.total += score
                info[JUDGED] = score
        return observation, given, terminated, truncated, info


def read_score(answer: str, top: int) -> float:
    """A score from 0 to 1 in a judge's answer; raises ModelError where it is none, or beyond the scale."""
    found = _SCORE.fullmatch(answer)
    value = float(found[1]) if found else math.nan
    if found is None or not 0 <= value <= top or (found[2] is not None and int(found[2]) != top):
        raise ModelError(f"the judge of frames must answer a number from 0 to {top}, and answered {answer[:60]!r}")
    return value / top


def png_of(frame_HWC: NDArray[np.uint8]) -> bytes:
    """The frame as a PNG file; raises ConfigError where it isn't (H, W, 3) bytes."""
    from raysafe.rl.training import png

    if frame_HWC.ndim != 3 or frame_HWC.shape[2] != 3 or frame_HWC.dtype != np.uint8:
        raise ConfigError(f"a frame must be (H, W, 3) bytes, the environment rendered {frame_HWC.shape}")
    return png(frame_HWC)


@dataclass
class _Tally:
    """What the environments of one process have judged since it was last asked."""

    judge: FrameJudge
    judged: int = 0
    total: float = 0.0


@dataclass(frozen=True)
class _Wrapping:
    """Small enough to be sent to env runners; all environments of a process share one judge and budget."""

    config: JudgeRewardConfig
    key: str
    share: int

    def __call__(self, env: gym.Env) -> gym.Env:
        if self.key not in _TALLIES:
            _TALLIES[self.key] = _Tally(FrameJudge(self.config, self.share))
        tally = _TALLIES[self.key]
        return JudgedEnv(env, self.config, tally.judge, tally)


_TALLIES: dict[str, _Tally] = {}
"""Of this process, by the extension's key: RLlib copies what it is given, and a budget must not be copied."""


def _charge(key: str, frames: int) -> None:
    if key in _TALLIES:
        _TALLIES[key].judge.asked += frames


def _told(key: str) -> tuple[int, int, float]:
    """(frames asked in all, frames judged and their scores since the last time) in this process."""
    tally = _TALLIES.get(key)
    if tally is None:
        return 0, 0, 0.0
    found = tally.judge.asked, tally.judged, tally.total
    tally.judged, tally.total = 0, 0.0
    return found
