"""Maximum-entropy inverse reinforcement learning: what a population and what eight demonstrations give back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from raysafe.irl.epic import epic
from raysafe.irl.maxent import MaxEntIRL, MaxEntSettings
from raysafe.irl.regret import policy_regret
from raysafe.irl.soft import soft_plan
from raysafe.rl.planning import optimal
from tests.bench.irl import LARGE_GAMMA, TARGET_BYTES, measure_large
from tests.irl.problems import grid, walks
from tests.verify.readme import publish

SIDE, GAMMA, STEPS, DEMONSTRATIONS, SEEDS = 8, 0.9, 32, 8, 5
GOAL, TRAP = 63, 27


@pytest.mark.slow
def test_maximum_entropy_gives_policies_and_values_back() -> None:
    states = SIDE * SIDE
    each_state = sparse.csr_array(sparse.eye_array(states))
    rewards_SA = (np.eye(states)[GOAL] - np.eye(states)[TRAP])[:, None] * np.ones(4)
    errors = {}
    for gamma, horizon in ((0.5, None), (0.9, None), (0.99, None), (1.0, 20)):
        mdp = grid(SIDE)
        demonstrator = soft_plan(mdp, 5 * rewards_SA, gamma, horizon)
        irl = MaxEntIRL(mdp, each_state, gamma, horizon)
        irl.fit_occupancy(demonstrator.visits(mdp.initial_S if horizon is None else mdp.initial_S[None]))
        errors[gamma] = float(np.abs(irl.policy() - demonstrator.policy).max())
    assert max(errors.values()) <= 1e-5
    rows = []
    for start, begins in ((None, "anywhere"), (0, "in a corner")):
        mdp = grid(SIDE, slip=0.3, start=start)
        policy_SA = optimal(mdp, rewards_SA, GAMMA).policy
        lost = {"likelihood": [], "features": []}
        apart = []
        for seed in range(SEEDS):
            shown = walks(mdp, policy_SA, STEPS, DEMONSTRATIONS, seed)
            for objective, losses in lost.items():
                settings = MaxEntSettings.parse({"objective": objective})
                reward = MaxEntIRL(mdp, each_state, GAMMA, settings=settings).fit(shown)
                losses.append(policy_regret(mdp, rewards_SA, reward.table_SA(), GAMMA).share)
                if objective == "likelihood":
                    apart.append(epic(rewards_SA, reward.table_SA(), GAMMA))
        assert np.mean(lost["likelihood"]) <= 0.03
        rows.append(
            f"| {begins} | {np.mean(lost['likelihood']):.3f} (worst {max(lost['likelihood']):.3f}) "
            f"| {np.mean(lost['features']):.3f} | {np.mean(apart):.2f} |"
        )
    big = measure_large()
    assert big["converged"] and big["error"] <= 1e-5 and big["memory_bytes"] <= TARGET_BYTES
    told = ", ".join(f"{error:.0e} at gamma {gamma}" for gamma, error in errors.items())
    publish(
        "irl-maxent",
        "| demonstrations begin | value lost, of optimal - random | lost by matching features | EPIC distance |\n"
        "|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
        f"{SIDE} x {SIDE} grid with a goal and a trap, slip 0.3, gamma {GAMMA}; {DEMONSTRATIONS} walks of {STEPS} "
        f"steps by the optimal policy, a feature for each state, means of\n{SEEDS} seeds. From a population's visits "
        f"the policy comes back to {told} (20 steps).\n128 x 128 states (gamma {LARGE_GAMMA}): {big['error']:.0e}, in "
        f"{big['cpu_s']:.0f} CPU seconds and {big['memory_bytes'] / 2**20:.0f} MB.",
    )
