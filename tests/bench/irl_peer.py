"""imitation's tabular maximum causal entropy IRL on a problem in an npz file; needs nothing of RaySafe.

`python irl_peer.py problem.npz policy.npy most_s`: trains until its own rule stops it, or most_s CPU seconds have gone;
writes the policy (T, S, A), and prints JSON: CPU seconds of training alone, iterations, and what its rule saw last.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
from imitation.algorithms.mce_irl import MCEIRL
from imitation.rewards.reward_nets import BasicRewardNet
from imitation.util import logger
from seals.base_envs import TabularModelPOMDP

LEARNING_RATE = 0.1
"""Adam's; ten times imitation's default, which moves weights of size 1 in ten steps rather than a hundred."""
MOST_ITERATIONS = 1000


def main() -> None:
    with np.load(sys.argv[1], allow_pickle=False) as problem:
        given = {name: problem[name] for name in problem.files}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    features_SF = given["features_SF"].astype(np.float32)
    env = TabularModelPOMDP(
        transition_matrix=given["transitions_SAS"],
        observation_matrix=features_SF,
        reward_matrix=np.zeros(len(features_SF)),
        horizon=int(given["horizon"]),
        initial_state_dist=given["initial_S"],
    )
    net = BasicRewardNet(
        env.observation_space,
        env.action_space,
        use_action=False,
        use_next_state=False,
        use_done=False,
        hid_sizes=[],
    )
    irl = MCEIRL(
        given["visits_S"],
        env,
        net,
        np.random.default_rng(0),
        optimizer_kwargs={"lr": LEARNING_RATE},
        log_interval=None,
        custom_logger=logger.configure(format_strs=[]),
    )
    steps, most_s = [0], float(sys.argv[3])
    inner = irl._train_step

    def counted(obs: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        steps[0] += 1
        if steps[0] % 10 == 0:
            print(f"imitation: iteration {steps[0]}", file=sys.stderr, flush=True)
        if time.process_time() - started > most_s:
            irl.linf_eps = np.inf
        return inner(obs)

    irl._train_step = counted
    started = time.process_time()
    visits_S = irl.train(max_iter=MOST_ITERATIONS)
    seconds = time.process_time() - started
    np.save(sys.argv[2], irl.policy.pi)
    gap = float(np.abs(visits_S - given["visits_S"]).max())
    print(json.dumps({"cpu_s": seconds, "iterations": steps[0], "gap": gap, "settled": gap <= 1e-3}))


if __name__ == "__main__":
    main()
