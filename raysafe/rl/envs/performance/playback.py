"""Play recorded episodes again and measure their performance: the program that `replay` runs in another process.

Reads a recording, or episodes as JSON lines from stdin where the argument is `-`; writes one JSON line for each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np

import raysafe.rl.envs  # noqa: F401 (registers the environments)
from raysafe.errors import DataError, RaySafeError
from raysafe.rl.envs.environment import GridworldEnv
from raysafe.rl.envs.performance import performance
from raysafe.rl.envs.problems import problem_named
from raysafe.rl.envs.recording import Episode, digest, read


def play(episode: Episode) -> dict[str, Any]:
    """Rewards, digest, performance, states and how it ended; raises DataError where it isn't what was recorded."""
    problem_named(episode.env_id)
    env = gymnasium.make(episode.env_id, **episode.env_config).unwrapped
    assert isinstance(env, GridworldEnv)
    observed = [env.reset(seed=episode.seed, options={"draw": episode.draw})[0]]
    states, rewards, ended = [env.state], [], "open"
    for action in episode.actions:
        if ended != "open":
            raise DataError(f"it has {len(episode.actions)} actions, but was {ended} after {len(rewards)}")
        seen, reward, terminated, truncated, _ = env.step(action)
        observed.append(seen)
        states.append(env.state)
        rewards.append(reward)
        ended = "terminated" if terminated else "truncated" if truncated else "open"
    found = digest(np.stack(observed), np.array(rewards))
    if episode.ended not in (None, ended):
        raise DataError(f"it was recorded as {episode.ended}, and played again it is {ended}")
    if episode.digest not in (None, found):
        raise DataError(f"observations or rewards differ: digest {found}, recorded {episode.digest}")
    measured = performance(env.problem, states, episode.actions, rewards)
    return {"rewards": rewards, "digest": found, "performance": measured, "states": states, "ended": ended}


def episodes(source: str) -> Iterable[Episode]:
    if source != "-":
        return read(source)
    return (Episode(**json.loads(line)) for line in sys.stdin)


def main(source: str) -> int:
    number = 0
    try:
        for number, episode in enumerate(episodes(source), start=1):  # noqa: B007 (for the message)
            print(json.dumps(play(episode)), flush=False)
    except RaySafeError as error:
        print(f"episode {number} of {source}: {error}" if number else str(error), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
