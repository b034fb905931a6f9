"""Fragments to look at: the policy acts in an environment of its own, and each step leaves a picture or a text."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysafe.data.trajectories import Trajectory
from raysafe.errors import ConfigError
from raysafe.rl.fragments import piece
from raysafe.rl.transitions import flatten_observations

if TYPE_CHECKING:
    from raysafe.rl.environment import EnvMaker

Look = Literal["frames", "text"]
MODES: dict[Look, str] = {"frames": "rgb_array", "text": "ansi"}
Act = Callable[[NDArray[Any]], NDArray[Any]]
"""Actions (N, …) as the environment takes them, for observations (N, …)."""


@dataclass(frozen=True, eq=False)
class Watched:
    """A fragment and what was seen of it: a PNG's bytes or a text for each of its T + 1 states."""

    fragment: Trajectory
    views: tuple[bytes | str, ...]


def watch(maker: EnvMaker, act: Act, *, length: int, count: int, look: Look, seed: int) -> list[Watched]:
    """`count` fragments, from as many episodes as it takes; raises ConfigError where nothing can be seen of it."""
    env = maker.make()
    modes = list(env.metadata.get("render_modes", []))
    env.close()
    if MODES[look] not in modes:
        raise ConfigError(
            f"learned_reward.rater.look is {look}, which needs the render mode {MODES[look]}; {maker.name} has "
            f"{', '.join(modes) or 'none'}"
        )
    env = maker.make(render_mode=MODES[look])
    found: list[Watched] = []
    try:
        while len(found) < count:
            found += _episode(env, act, length=length, most=count - len(found), seed=seed + len(found))
    finally:
        env.close()
    return found


def _episode(env: Any, act: Act, *, length: int, most: int, seed: int) -> list[Watched]:
    obs, _ = env.reset(seed=seed)
    seen, views, actions, rewards = [obs], [_view(env.render())], [], []
    terminated = truncated = False
    while not (terminated or truncated) and len(actions) < length * most:
        (action,) = act(np.asarray(obs)[None])
        obs, reward, terminated, truncated, _ = env.step(action)
        seen.append(obs)
        views.append(_view(env.render()))
        actions.append(action)
        rewards.append(float(reward))
    whole = Trajectory(
        actions_T=np.array(actions),
        obs_T1D=flatten_observations(env.observation_space, np.array(seen)),
        rewards_T=np.array(rewards),
        terminated=bool(terminated),
    )
    starts = range(0, len(whole), length)
    pieces = [(start, min(start + length, len(whole))) for start in starts]
    # an episode shorter than a fragment is one all the same, or this would never end
    full = [(a, b) for a, b in pieces if b - a == length or terminated or len(pieces) == 1]
    return [Watched(piece(whole, a, b), tuple(views[a : b + 1])) for a, b in full][:most]


def _view(drawn: Any) -> bytes | str:
    if isinstance(drawn, str):
        return drawn
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.asarray(drawn, dtype=np.uint8)).save(file, format="PNG")
    return file.getvalue()
