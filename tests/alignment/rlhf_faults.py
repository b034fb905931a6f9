"""RLHF on a cluster of three raylets with pretended GPUs, whose processes are killed one after another.

`python -m tests.alignment.rlhf_faults FOLDER FAULT…` trains in a process of its own, the driver, while each fault
strikes after a checkpoint: policy, rollout, reward or driver (SIGKILL), raylet (of an engine's node), hang (SIGSTOP of
a policy's rank). A driver that was killed is started again and goes on with its run. RAYSAFE_FAKE_GPUS lets the
roles ask for GPUs and compute on the CPU.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1", "RAYSAFE_FAKE_GPUS": "1"}

from raysafe.alignment.ppo import PPOJob
from raysafe.runtime.run import Run

STEPS = 20
DEADLINE_S = 20.0
WAIT_S = 240.0


def job(folder: Path) -> PPOJob:
    """Five roles in pools of their own: the policy's two ranks, two engines, one of each other."""
    gpu = {"cpus": 1, "gpus": 0.5}
    return PPOJob(
        model="preset:tiny",
        data=str(folder / "prompts.jsonl"),
        rewards=("tests.alignment.rlhf_faults:vowels",),
        storage=str(folder),
        steps=STEPS,
        prompts_per_step=8,
        answers_per_prompt=2,
        minibatches=2,
        max_tokens=8,
        validate_every=4,
        checkpoint_every=1,
        keep_checkpoints=100,
        placement="split",
        pools={"policy": {"workers": 2, "nodes": 1, **gpu}, "rollout": {"workers": 2, **gpu}},
        training={"precision": "float64", "learning_rate": 1e-3, "schedule": "constant", "warmup_fraction": 0.0},
        deadline_s=DEADLINE_S,
        max_failures=8,
    )


def vowels(prompt: Any, answer: str, label: Any) -> float:
    return sum(letter in "aeiou" for letter in answer) / 8


def events(run: Path) -> list[dict[str, Any]]:
    file = run / "events.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def strike(run: Path, fault: str, raylets: dict[str, int], driver: subprocess.Popen[bytes]) -> None:
    """Send the signal to where the role runs now."""
    where = [event for event in events(run) if event["event"] == "placed"][-1]["where"]
    if fault == "driver":
        driver.kill()
    elif fault == "raylet":
        os.kill(raylets[where["rollout"][0]["node"]], signal.SIGKILL)
    elif fault == "hang":
        os.kill(where["policy"][1]["pid"], signal.SIGSTOP)
    else:
        os.kill(where[fault][-1]["pid"], signal.SIGKILL)


def latest(run: Path) -> int:
    """Step of the last whole checkpoint."""
    return max((int(file.parent.name[5:]) for file in run.glob("checkpoints/step-*/state.json")), default=0)


def placed(run: Path) -> int:
    """How often all roles stood."""
    return sum(event["event"] == "placed" for event in events(run))


def until(happened: Callable[[], object], driver: subprocess.Popen[bytes]) -> None:
    """Wait for it; the driver's end or too long a wait is an error."""
    deadline = time.monotonic() + WAIT_S
    while not happened():
        assert driver.poll() is None, "the driver has ended"
        assert time.monotonic() < deadline, "nothing happened for too long"
        time.sleep(0.01)


def start_driver(folder: Path, address: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", __spec__.name if __spec__ else "", str(folder), "--driver", address])


def drive(folder: Path, address: str) -> None:
    """The driver's life: a new run, or the one that is there."""
    started = sorted(folder.glob("ppo-*"))
    settings = job(folder).model_copy(update={"address": address})
    settings.run(resume=Run.open(started[0]) if started else None)


def main(folder: Path, faults: list[str]) -> int:
    from ray.cluster_utils import Cluster

    rows = [json.dumps({"prompt": f"say {i}"}) for i in range(60)]
    (folder / "prompts.jsonl").write_text("\n".join(rows))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    raylets = {}
    for _ in range(2):
        node = cluster.add_node(num_cpus=8, num_gpus=3)
        raylets[node.node_id] = node.all_processes["raylet"][0].process.pid
    driver = start_driver(folder, cluster.address)
    try:
        until(lambda: list(folder.glob("ppo-*")), driver)
        (run,) = folder.glob("ppo-*")
        for fault in faults:
            before = latest(run)
            until(lambda before=before: latest(run) > before, driver)
            mended = placed(run)
            strike(run, fault, raylets, driver)
            struck = time.monotonic()
            if fault == "driver":
                driver.wait()
                driver = start_driver(folder, cluster.address)
            until(lambda mended=mended: placed(run) > mended, driver)
            print(f"{fault}: struck at step {latest(run)}, mended after {time.monotonic() - struck:.1f} s", flush=True)
        return driver.wait(WAIT_S)
    finally:
        driver.kill()
        cluster.shutdown()


if __name__ == "__main__":
    if "--driver" in sys.argv:
        drive(Path(sys.argv[1]), sys.argv[3])
    else:
        sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
