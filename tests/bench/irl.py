"""Maximum-entropy IRL against imitation's, and its memory: `python -m tests.bench.irl --peer PYTHON`.

PYTHON is the interpreter of an environment with tests/bench/irl-requirements.txt; without it only RaySafe's side runs.
A 32 x 32 grid, slip 0.3, 16 radial features, 32 steps undiscounted (where imitation's gradient is right), exact
demonstrations of a soft-optimal policy. Each side fits until its own rule stops it, imitation at the latest after MOST
times RaySafe's CPU: the ratio is then a lower bound. The policy's error is the total variation to the demonstrator's,
averaged over its visits. CPU seconds of fitting alone, one thread each. Targets: RaySafe's error is not above
imitation's, in a twentieth of its CPU; and a 128 x 128 grid with a feature for each state, gamma 0.95, stays within
2 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from raysafe.irl.features import Features
from raysafe.irl.maxent import MaxEntIRL
from raysafe.irl.soft import SoftPlan, soft_plan
from raysafe.rl.mdp import Floats, TabularMDP
from tests.irl.problems import grid

SIDE, HORIZON = 32, 32
MOST = 50.0
TARGET_RATIO, TARGET_BYTES = 20.0, 2 << 30
LARGE_SIDE, LARGE_GAMMA = 128, 0.95


def radial(side: int, centres: int = 4) -> Floats:
    """(S, F): one bump around each of centres x centres places, as wide as they are apart."""
    row_S, column_S = np.divmod(np.arange(side * side), side)
    places = (np.arange(centres) + 0.5) * side / centres - 0.5
    apart_SFR = row_S[:, None] - np.repeat(places, centres), column_S[:, None] - np.tile(places, centres)
    return np.exp(-(apart_SFR[0] ** 2 + apart_SFR[1] ** 2) / (2 * (side / centres) ** 2))


def error_of(policy_TSA: Floats, demonstrator: SoftPlan, mdp: TabularMDP) -> float:
    """Mean total variation over the demonstrator's visits."""
    state_S, total = mdp.initial_S, 0.0
    for mine_SA, theirs_SA in zip(policy_TSA, demonstrator.policy, strict=True):
        total += float(state_S @ np.abs(mine_SA - theirs_SA).sum(axis=1)) / 2
        state_S = mdp.arrivals(state_S[:, None] * theirs_SA)
    return total / len(policy_TSA)


def compare(peer: str | None) -> dict[str, Any]:
    """cpu_s, error and iterations of each side."""
    mdp, features_SF = grid(SIDE), radial(SIDE)
    weights_F = np.random.default_rng(0).normal(size=features_SF.shape[1])
    demonstrator = soft_plan(mdp, Features(features_SF, mdp.states, 4).rewards(weights_F), 1.0, HORIZON)
    visits_SA = demonstrator.visits(mdp.initial_S[None])
    started = time.process_time()
    irl = MaxEntIRL(mdp, features_SF, 1.0, HORIZON)
    irl.fit_occupancy(visits_SA)
    found: dict[str, Any] = {
        "raysafe": {
            "cpu_s": time.process_time() - started,
            "error": error_of(irl.policy(), demonstrator, mdp),
            "iterations": irl.report.plans,
        }
    }
    if peer is None:
        return found
    # imitation counts the state after the last step as well
    state_S = mdp.initial_S
    for policy_SA in demonstrator.policy:
        state_S = mdp.arrivals(state_S[:, None] * policy_SA)
    with tempfile.TemporaryDirectory() as folder:
        problem, policy = Path(folder, "problem.npz"), Path(folder, "policy.npy")
        dense_SAS = sparse.csr_array(mdp.rows).toarray().reshape(mdp.states, 4, mdp.states)
        np.savez(
            problem,
            transitions_SAS=dense_SAS,
            features_SF=features_SF,
            initial_S=mdp.initial_S,
            horizon=np.array(HORIZON),
            visits_S=visits_SA.sum(axis=1) + state_S,
        )
        script = str(Path(__file__).with_name("irl_peer.py"))
        command = [peer, script, str(problem), str(policy), str(MOST * found["raysafe"]["cpu_s"])]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found["imitation"] = json.loads(run.stdout.splitlines()[-1])
        found["imitation"]["error"] = error_of(np.load(policy, allow_pickle=False), demonstrator, mdp)
    return found


def large() -> dict[str, Any]:
    """What a 128 x 128 grid takes; to be run in a process of its own."""
    states = LARGE_SIDE**2
    mdp = grid(LARGE_SIDE)
    rewards_SA = np.random.default_rng(0).normal(size=(states, 1)) * np.ones(4)
    demonstrator = soft_plan(mdp, rewards_SA, LARGE_GAMMA)
    started = time.process_time()
    irl = MaxEntIRL(mdp, sparse.csr_array(sparse.eye_array(states)), LARGE_GAMMA)
    irl.fit_occupancy(demonstrator.visits(mdp.initial_S))
    return {
        "cpu_s": time.process_time() - started,
        "error": float(np.abs(irl.policy() - demonstrator.policy).max()),
        "plans": irl.report.plans,
        "converged": irl.report.converged,
        "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def measure_large() -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.irl", "--large"]
    run = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="interpreter of an environment with tests/bench/irl-requirements.txt")
    parser.add_argument("--large", action="store_true", help="only the 128 x 128 grid, in this process, as JSON")
    given = parser.parse_args()
    if given.large:
        print(json.dumps(large()))
        return
    found = compare(given.peer)
    for name, side in found.items():
        print(f"{name:10} {side['cpu_s']:8.2f} s CPU  error {side['error']:.1e}  {side['iterations']} iterations")
    if "imitation" in found:
        ratio = found["imitation"]["cpu_s"] / found["raysafe"]["cpu_s"]
        reached = ratio >= TARGET_RATIO and found["raysafe"]["error"] <= found["imitation"]["error"]
        bound = "" if found["imitation"]["settled"] else "at least "
        print(
            f"ratio {bound}{ratio:.0f} (target {TARGET_RATIO:.0f}, at an error not above imitation's): {_word(reached)}"
        )
    big = measure_large()
    print(
        f"{LARGE_SIDE} x {LARGE_SIDE}  {big['cpu_s']:.1f} s CPU  error {big['error']:.1e}  {big['plans']} plans  "
        f"{big['memory_bytes'] / 2**20:.0f} MB in all (target {TARGET_BYTES / 2**20:.0f}): "
        f"{_word(big['memory_bytes'] <= TARGET_BYTES and big['converged'])}"
    )


def _word(reached: bool) -> str:
    return "reached" if reached else "MISSED"


if __name__ == "__main__":
    main()
