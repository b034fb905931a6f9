"""Play episodes again, in another process, to learn what they were worth.

Performance is computed there and nowhere else; observations and rewards have to come out bit for bit as recorded.
`python -m raysafe.rl.envs.replay FILE...` prints a table.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raysafe.errors import DataError, RaySafeError
from raysafe.rl.envs.problem import State
from raysafe.rl.envs.recording import Episode, read

CHILD = "raysafe.rl.envs.performance.playback"


@dataclass(frozen=True)
class Replay:
    """rewards: T of them; states: T + 1; digest: SHA-256 of observations and rewards; ended: terminated, truncated or
    open."""

    rewards: list[float]
    digest: str
    performance: float
    states: list[State]
    ended: str


def replay(env_id: str, env_config: dict[str, Any], seed: int, actions: Sequence[int], draw: int = 0) -> Replay:
    """One episode, which began with reset(seed=seed); draw: how many resets and steps there were since."""
    return replay_all([Episode(env_id, dict(env_config), seed, draw, [int(action) for action in actions])])[0]


def replay_all(episodes: Sequence[Episode]) -> list[Replay]:
    """Many in one other process. Raises DataError where one doesn't come out as it was recorded."""
    return _run("-", "".join(json.dumps(asdict(episode)) + "\n" for episode in episodes))


def replay_file(path: str | Path) -> list[Replay]:
    """The episodes of a recording; raises DataError like `replay_all`."""
    return _run(str(path), "")


def _run(source: str, given: str) -> list[Replay]:
    done = subprocess.run(
        [sys.executable, "-m", CHILD, source], input=given, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DataError(f"playing episodes again failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return [Replay(**{**row, "states": [_frozen(state) for state in row["states"]]}) for row in rows]


def _frozen(value: Any) -> Any:
    return tuple(_frozen(part) for part in value) if isinstance(value, list) else value


def main(paths: Sequence[str]) -> int:
    try:
        for path in paths:
            episodes, played = read(path), replay_file(path)
            for number, (episode, again) in enumerate(zip(episodes, played, strict=True), start=1):
                print(
                    f"{path}  episode {number}  {episode.env_id}  seed {episode.seed}  steps {len(again.rewards)}"
                    f"  {again.ended}  return {sum(again.rewards):g}  performance {again.performance:g}  same bits"
                )
    except RaySafeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
