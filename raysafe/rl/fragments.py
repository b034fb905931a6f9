"""Fragments of trajectories: the pieces of behaviour that are compared, cut from what an agent did.

All have the same length but for those that an episode's end cuts short (Christiano et al. 2017, section 2.2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raysafe.data.trajectories import Trajectory


@dataclass
class _Episode:
    """What has been seen so far of an episode that comes in chunks."""

    obs: list[NDArray[np.float32]] = field(default_factory=list)
    actions: list[NDArray[np.generic]] = field(default_factory=list)
    rewards: list[NDArray[np.float64]] = field(default_factory=list)
    steps: int = 0


class FragmentPool:
    """The latest fragments of a running agent; chunks of an episode are joined by its name before they are cut."""

    def __init__(self, length: int, capacity: int) -> None:
        """length: steps of a fragment; capacity: fragments kept, the oldest go first."""
        self.length = length
        self.fragments: deque[Trajectory] = deque(maxlen=capacity)
        self._open: dict[str, _Episode] = {}
        self.ended_early = 0
        """Episodes that ended by themselves, not at a time limit."""

    def add(
        self,
        episode: str,
        obs_T1D: NDArray[np.float32],
        actions_T: NDArray[np.generic],
        rewards_T: NDArray[np.float64],
        *,
        terminated: bool = False,
        truncated: bool = False,
    ) -> None:
        """The next steps of an episode. Each step must come once, in order."""
        kept = self._open.setdefault(episode, _Episode())
        # the first observation of a chunk is the last one of the chunk before
        kept.obs.append(obs_T1D if not kept.obs else obs_T1D[1:])
        kept.actions.append(actions_T)
        kept.rewards.append(rewards_T)
        kept.steps += len(actions_T)
        ends = terminated or truncated
        if kept.steps >= self.length or ends:
            self._cut(episode, terminated=terminated, ends=ends)
        self.ended_early += terminated

    def keep_open(self, episodes: Collection[str]) -> None:
        """Forget the beginnings of other episodes: their environments were reset, and nothing follows."""
        self._open = {name: kept for name, kept in self._open.items() if name in episodes}

    def _cut(self, episode: str, *, terminated: bool, ends: bool) -> None:
        kept = self._open.pop(episode)
        if not kept.steps:
            return
        whole = Trajectory(
            obs_T1D=np.concatenate(kept.obs),
            actions_T=np.concatenate(kept.actions),
            rewards_T=np.concatenate(kept.rewards),
            terminated=terminated,
        )
        done = 0
        while len(whole) - done >= self.length:
            self.fragments.append(piece(whole, done, done + self.length))
            done += self.length
        if ends:
            # what a time limit leaves over is no shorter behaviour, only a shorter view of it
            if terminated and done < len(whole):
                self.fragments.append(piece(whole, done, len(whole)))
        else:
            assert whole.obs_T1D is not None and whole.rewards_T is not None
            rest = _Episode([whole.obs_T1D[done:]], [whole.actions_T[done:]], [whole.rewards_T[done:]])
            rest.steps = len(whole) - done
            self._open[episode] = rest


def piece(whole: Trajectory, start: int, stop: int) -> Trajectory:
    """Steps start to stop (excluded) of a trajectory, with the state after the last."""
    return Trajectory(
        actions_T=whole.actions_T[start:stop],
        obs_T1D=None if whole.obs_T1D is None else whole.obs_T1D[start : stop + 1],
        states_T1=None if whole.states_T1 is None else whole.states_T1[start : stop + 1],
        rewards_T=None if whole.rewards_T is None else whole.rewards_T[start:stop],
        terminated=whole.terminated and stop == len(whole),
        truncated=whole.truncated and stop == len(whole),
    )


def random_pairs(
    fragments: Sequence[Trajectory], count: int, draw: np.random.Generator
) -> list[tuple[Trajectory, Trajectory]]:
    """Up to `count` distinct pairs of different fragments, in random order."""
    most = len(fragments) * (len(fragments) - 1) // 2
    chosen: dict[tuple[int, int], None] = {}
    while len(chosen) < min(count, most):
        i, j = draw.choice(len(fragments), 2, replace=False).tolist()
        chosen.setdefault((min(i, j), max(i, j)))
    # which of both stands first must say nothing
    return [
        (fragments[i], fragments[j]) if first else (fragments[j], fragments[i])
        for (i, j), first in zip(chosen, (draw.random(len(chosen)) < 0.5).tolist(), strict=True)
    ]
