"""PPO and DQN on CartPole-v1 against Stable-Baselines3, to a mean return of 475 over 20 episodes, after start-up.

`python -m tests.bench.rl --peers PYTHON` runs both sides in turn, a process of their own for each seed. Counted are CPU
seconds of the process and of all below it, Ray's daemons included; evaluations, the same on both sides and every 2,048
steps, are left out. Demanded are 475 by all seeds, for PPO at most 1.2 times the peer's CPU seconds and at least 1.2
times its steps per CPU second, for DQN at most 1.5 times its CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.bench.cpu import tree_cpu_s

TARGET, EVERY, EPISODES = 475.0, 2048, 20
STEPS = {"ppo": 100_000, "dqn": 50_000}
LIMITS = {"ppo": 1.2, "dqn": 1.5}
"""CPU seconds over the peer's."""
TUNED: dict[str, dict[str, Any]] = {
    "ppo": {
        "ppo": {"batch_size": 256, "minibatch_size": 256, "epochs": 20, "gamma": 0.98, "lam": 0.8},
        "sampling": {"envs": 16},
    },
    "dqn": {},
}
"""For CartPole, as the peer's are: those of jobs/presets/rl_tiny.yaml, and the defaults."""
SPEED = 1.2
"""PPO's steps per CPU second over the peer's."""


def ours(algorithm: str, seed: int) -> dict[str, float]:
    """One training by the job's own loop, with its checkpoints."""
    from raysafe.rl.job import RLJob
    from raysafe.rl.settings import EvaluationSettings
    from raysafe.rl.training import Training
    from raysafe.runtime.progress import Progress
    from raysafe.runtime.run import Run
    from raysafe.runtime.signals import StopSignal

    with tempfile.TemporaryDirectory(prefix="raysafe-bench-") as storage:
        job = RLJob.parse(
            {
                "env": "CartPole-v1",
                "algorithm": algorithm,
                "steps": STEPS[algorithm],
                "target": TARGET,
                "seed": seed,
                "checkpoint_every": STEPS[algorithm] // 4,
                "storage": storage,
                **TUNED[algorithm],
                "evaluation": EvaluationSettings(every=EVERY, episodes=EPISODES, frames=0).model_dump(),
            }
        )
        run = Run.create(job)
        with Progress(run, job.job) as progress, StopSignal(progress.say) as stop:
            agent = job.agent()
            training = Training(job, run, agent, progress, stop)
            aside_s, evaluate = 0.0, agent.evaluate

            def aside() -> Any:
                nonlocal aside_s
                before = tree_cpu_s()
                found = evaluate()
                aside_s += tree_cpu_s() - before
                # the peer isn't judged before it has learned, and a lucky beginning is no training
                return found if training.position.steps else replace(found, admitted=False)

            agent.evaluate = aside
            before = tree_cpu_s()
            training.train()
            cpu_s = tree_cpu_s() - before - aside_s
            agent.close()
        return {"return": training.position.best or 0.0, "steps": run.metrics[-1]["step"], "cpu_s": cpu_s}


def answer(command: list[str], **environment: str) -> dict[str, float]:
    """What a process says in its last line."""
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(algorithm: str, seeds: range, peers: str) -> dict[str, float]:
    """Print the table of an algorithm; its figures."""
    peer_script = str(Path(__file__).with_name("rl_peer.py"))
    print(f"\n{algorithm} on CartPole-v1       RaySafe                    Stable-Baselines3")
    print("seed   return   steps  CPU s  steps/s   return   steps  CPU s  steps/s")
    rows = []
    for seed in seeds:
        own = answer([sys.executable, "-m", "tests.bench.rl", "--one", algorithm, str(seed)])
        peer = answer([peers, peer_script, algorithm, str(seed)])
        rows.append((own, peer))
        cells = "".join(
            f"{side['return']:>9.1f}{side['steps']:>8.0f}{side['cpu_s']:>7.1f}{side['steps'] / side['cpu_s']:>9.0f}"
            for side in (own, peer)
        )
        print(f"{seed:>4}{cells}", flush=True)
    cpu, peer_cpu = (fmean(side["cpu_s"] for side in sides) for sides in zip(*rows, strict=True))
    speed, peer_speed = (
        sum(side["steps"] for side in sides) / sum(side["cpu_s"] for side in sides) for sides in zip(*rows, strict=True)
    )
    found = {
        "seeds": len(rows),
        "reached": sum(own["return"] >= TARGET for own, _ in rows),
        "peer_reached": sum(peer["return"] >= TARGET for _, peer in rows),
        "cpu_s": cpu,
        "peer_cpu_s": peer_cpu,
        "cpu_ratio": cpu / peer_cpu,
        "speed": speed,
        "peer_speed": peer_speed,
        "speed_ratio": speed / peer_speed,
    }
    print(f"reached {TARGET:g}: {found['reached']} of {len(rows)} seeds, the peer {found['peer_reached']}")
    print(f"CPU seconds to get there, mean: {cpu:.1f} against {peer_cpu:.1f}, ratio {found['cpu_ratio']:.2f}")
    print(f"steps per CPU second: {speed:.0f} against {peer_speed:.0f}, ratio {found['speed_ratio']:.2f}")
    return found


def kept(algorithm: str, found: dict[str, float]) -> bool:
    """Whether what is demanded of an algorithm holds."""
    fast = algorithm != "ppo" or found["speed_ratio"] >= SPEED
    return found["reached"] == found["seeds"] and found["cpu_ratio"] <= LIMITS[algorithm] and fast


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="interpreter of an environment with rl-requirements.txt")
    parser.add_argument("--algorithms", nargs="+", default=["ppo", "dqn"], choices=["ppo", "dqn"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--one", nargs=2, metavar=("ALGORITHM", "SEED"), help="our side alone, as JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(ours(given.one[0], int(given.one[1]))))
        return 0
    if not given.peers:
        parser.error("--peers is required")
    found = {algorithm: compare(algorithm, range(given.seeds), given.peers) for algorithm in given.algorithms}
    if given.json:
        Path(given.json).write_text(json.dumps(found, indent=2))
    return 0 if all(kept(algorithm, figures) for algorithm, figures in found.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
