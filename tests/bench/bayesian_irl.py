"""What is claimed of Bayesian, active and cooperative inverse reinforcement learning, measured.

    python -m tests.bench.bayesian_irl speed          four chains on two Ray workers against one process
    python -m tests.bench.bayesian_irl distances      samplers against the enumerated posterior
    python -m tests.bench.bayesian_irl active         well chosen against random questions [--problems 100]
    python -m tests.bench.bayesian_irl plain          the same on grids without ice
    python -m tests.bench.bayesian_irl cooperative    pedagogic against expert demonstrations [--problems 100]

Each prints its figures; `--json FILE` writes them.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

# before numpy: one process is one core
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from raysafe.irl.active import ActionQuestions, ActiveConfig, ActiveIRL, By
from raysafe.irl.bayes.chains import run_chains
from raysafe.irl.bayes.diagnostics import ess_bulk, r_hat
from raysafe.irl.bayes.enumerated import enumerate_posterior
from raysafe.irl.bayes.hamiltonian import Hamiltonian
from raysafe.irl.bayes.likelihood import Likelihood
from raysafe.irl.bayes.policy_walk import PolicyWalk, axis
from raysafe.irl.bayes.priors import NormalPrior, UniformPrior
from raysafe.irl.bayes.target import Target
from raysafe.irl.bayes.variational import Variational, draw_normal, fit_normal
from raysafe.irl.features import Features
from raysafe.rl.mdp import TabularMDP
from raysafe.rl.planning import evaluate, optimal
from raysafe.runtime.bar import Bar
from tests.irl.bayes.problems import target as small_target
from tests.irl.cooperative.problems import apprenticeship, walks

GAMMA, BETA = 0.9, 5.0
STEP = 0.2
Figures = dict[str, Any]


def grid(size: int, icy_S: np.ndarray | None = None) -> TabularMDP:
    """Right, down, left, up, from any cell; where it is icy any of these or none, at random."""
    states, goes_SAS = size * size, walks(size)
    if icy_S is not None:
        goes_SAS[icy_S] = goes_SAS[icy_S].mean(axis=1, keepdims=True)
    return TabularMDP(goes_SAS[:, :4], np.full(states, 1 / states))


def speed(size: int = 5, warmup: int = 200, draws: int = 800, chains: int = 4) -> Figures:
    """Hamiltonian chains over a reward for each cell, from 100 actions; the start of Ray isn't counted."""
    from raysafe.runtime.cluster import Needs, connect

    mdp, rng = grid(size), np.random.default_rng(0)
    features = Features(np.eye(mdp.states), mdp.states, mdp.actions)
    seen_SA = rng.multinomial(100, np.full(mdp.states * mdp.actions, 1 / mdp.states / mdp.actions))
    seen_SA = seen_SA.reshape(mdp.states, mdp.actions).astype(float)

    def run(workers: int, size_of: tuple[int, int]) -> tuple[float, np.ndarray]:
        target = Target(Likelihood(mdp, features, seen_SA, beta=1.0, gamma=GAMMA), NormalPrior())
        begun = time.perf_counter()
        found = run_chains(
            target, Hamiltonian(), chains=chains, warmup=size_of[0], draws=size_of[1], seed=0, workers=workers
        )
        return time.perf_counter() - begun, found.draws_CNF

    begun = time.perf_counter()
    connect(needs=Needs(workers=2, cpus=1))
    run(2, (4, 4))
    start_s = time.perf_counter() - begun
    one_s, one_CNF = run(1, (warmup, draws))
    two_s, two_CNF = run(2, (warmup, draws))
    assert np.array_equal(one_CNF, two_CNF), "the draws differ"
    return {"one_s": one_s, "two_s": two_s, "ratio": one_s / two_s, "start_s": start_s, "draws": int(one_CNF.shape[1])}


def distances(draws: int = 5000, chains: int = 4) -> Figures:
    """Total variation between binned draws and the enumerated posterior of a problem with two weights."""
    found: Figures = {}
    for prior in (UniformPrior(), NormalPrior(scale=0.5)):
        target = small_target(prior)
        axis_G = axis(prior, STEP, None if prior.bounds else 2.0)
        on_grid, in_cells = enumerate_posterior(target, axis_G), enumerate_posterior(target, axis_G, within=5)
        for sampler in (PolicyWalk(step=STEP, reach=3, moves=6), Hamiltonian()):
            chain = run_chains(target, sampler, chains=chains, warmup=draws // 10, draws=draws, seed=0)
            against = on_grid if isinstance(sampler, PolicyWalk) else in_cells
            draws_CN = chain.draws_CNF[:, :, 0]
            found[f"{sampler.kind}, {prior.kind} prior"] = {
                "distance": against.total_variation(chain.draws_CNF.reshape(-1, 2)),
                "r_hat": r_hat(draws_CN),
                "ess": ess_bulk(draws_CN),
            }
        fitted = fit_normal(target, Variational(), np.random.default_rng(0))
        for name, resample in (("variational, resampled", True), ("variational as it is", False)):
            drawn, effective = draw_normal(target, fitted, chains * draws, np.random.default_rng(1), resample)
            found[f"{name}, {prior.kind} prior"] = {
                "distance": in_cells.total_variation(drawn.draws_NF),
                "r_hat": 1.0,
                "ess": effective if resample else float(chains * draws),
            }
        # the same number of independent draws of the enumerated posterior: what chance alone makes of it
        cells = np.random.default_rng(2).multinomial(chains * draws, in_cells.probabilities.ravel())
        chance = float(0.5 * np.abs(cells / (chains * draws) - in_cells.probabilities.ravel()).sum())
        found[f"independent draws, {prior.kind} prior"] = {"distance": chance, "r_hat": 1.0, "ess": chains * draws}
    return found


def active(
    problems: int = 100, size: int = 5, weights: int = 8, questions: int = 20, icy: float = 0.5, first: int = 0
) -> Figures:
    """Regret, as a share of (optimal less random policy), after each question, for each problem.

    A grid with `weights` cells whose rewards are drawn from a standard normal, the others nothing. Each cell is icy
    with probability `icy`: there one slides a step, or none, whatever one does. An expert who is rational to degree
    5 says what it would do in a cell. first: number of the first problem.
    """
    regrets: dict[By, list[list[float]]] = {"information": [], "regret": [], "random": []}
    with Bar("active", total=problems, unit="problem") as bar:
        for seed in range(first, first + problems):
            rng = np.random.default_rng([1, seed])
            mdp = grid(size, rng.random(size * size) < icy)
            array_SF = np.zeros((mdp.states, weights))
            array_SF[rng.permutation(mdp.states)[:weights], np.arange(weights)] = 1
            features = Features(array_SF, mdp.states, mdp.actions)
            rewards_SA = features.rewards(rng.normal(size=weights))
            plan = optimal(mdp, rewards_SA, GAMMA)
            random = evaluate(mdp, np.full((mdp.states, 4), 0.25), rewards_SA, GAMMA).mean()
            chances_SA = np.exp(BETA * (plan.q - plan.q.max(axis=1, keepdims=True)))
            chances_SA /= chances_SA.sum(axis=1, keepdims=True)
            for by in regrets:
                answers = np.random.default_rng([2, seed])
                config = ActiveConfig(particles=150, moves=3, seed=seed)
                method = ActiveIRL(ActionQuestions(mdp, features, GAMMA, BETA), config)
                rewards = method.run(
                    lambda state, of=answers, chances=chances_SA: int(of.choice(4, p=chances[state])), questions, by
                )
                policies = [optimal(mdp, reward.table_SA(), GAMMA).policy for reward in rewards]
                values = [evaluate(mdp, policy_SA, rewards_SA, GAMMA).mean() for policy_SA in policies]
                best = plan.values.mean()
                regrets[by].append([float((best - value) / (best - random)) for value in values])
            bar.advance(1)
    return {**regrets}


def cooperative(problems: int = 100) -> Figures:
    """The robot's regret in each problem, mean over its five parameters, after lessons of five steps."""
    found: dict[str, list[float]] = {"expert": [], "pedagogic": [], "pragmatic": []}
    with Bar("cooperative", total=problems, unit="problem") as bar:
        for seed in range(problems):
            problem = apprenticeship(seed)
            literal_LK = problem.literal()
            values_LK = problem.deploy(literal_LK)
            human = problem.pedagogic(values_LK)
            pragmatic_LK = problem.deploy(problem.pragmatic(human, literal_LK))
            for name, outcome in (
                ("expert", problem.outcome(problem.expert(), values_LK)),
                ("pedagogic", problem.outcome(human, values_LK)),
                ("pragmatic", problem.outcome(human, pragmatic_LK)),
            ):
                found[name].append(float(problem.prior_K @ outcome.regret_K))
            bar.advance(1)
    return found


def summary(name: str, figures: Figures) -> str:
    if name == "speed":
        return (
            f"four chains of {figures['draws']} draws: one process {figures['one_s']:.1f} s, two Ray workers "
            f"{figures['two_s']:.1f} s: {figures['ratio']:.2f} times as fast (starting Ray: {figures['start_s']:.1f} s)"
        )
    if name == "distances":
        return "\n".join(
            f"{what:38s} distance {one['distance']:.3f}  R-hat {one['r_hat']:.4f}  effective draws {one['ess']:.0f}"
            for what, one in figures.items()
        )
    rows = {what: np.array(values) for what, values in figures.items()}
    if name in ("active", "plain"):
        return "\n".join(
            f"{what:12s} " + " ".join(f"{share:.3f}" for share in values_PQ.mean(axis=0))
            for what, values_PQ in rows.items()
        )
    return "\n".join(f"{what:10s} mean regret {values_P.mean():.4f}" for what, values_P in rows.items())


def main() -> None:
    kinds: dict[str, Callable[..., Figures]] = {
        "speed": speed, "distances": distances, "active": active, "plain": partial(active, icy=0.0),
        "cooperative": cooperative,
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=kinds)
    parser.add_argument("--problems", type=int, help="How many problems are drawn.")
    parser.add_argument("--json", type=Path, help="File for the figures.")
    options = parser.parse_args()
    figures = kinds[options.what](**({"problems": options.problems} if options.problems else {}))
    print(summary(options.what, figures))
    if options.json:
        options.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
