"""Samplers against the enumerated posterior, questions that inform against random ones, and what teaching is worth."""

from __future__ import annotations

import numpy as np
import pytest

from raysafe.records.statistics import mean_interval, paired_t
from tests.bench.bayesian_irl import active, cooperative, distances
from tests.verify.readme import publish


@pytest.mark.slow
def test_posteriors_are_exact_informative_questions_save_answers_and_teaching_pays() -> None:
    found = distances()
    for name, figures in found.items():
        if "as it is" not in name:
            assert figures["distance"] <= 0.05, name
        assert figures["r_hat"] < 1.01, name

    regrets = active()
    informed_PQ, random_PQ = np.array(regrets["information"]), np.array(regrets["random"])
    eight, twenty = mean_interval(informed_PQ[:, 7]), mean_interval(random_PQ[:, 19])
    ahead = paired_t(random_PQ[:, 19], informed_PQ[:, 7])
    assert eight.value <= twenty.value
    first = int(np.argmax(informed_PQ.mean(axis=0) <= twenty.value)) + 1

    robots = cooperative()
    test = paired_t(robots["expert"], robots["pedagogic"])
    assert test.difference > 0 and test.p_value < 0.01

    kinds = ("policy_walk", "hamiltonian", "variational, resampled", "variational as it is", "independent draws")
    rows = [
        f"| {kind.replace('_walk', ' walk')} | {found[f'{kind}, uniform prior']['distance']:.3f} "
        f"| {found[f'{kind}, normal prior']['distance']:.3f} |"
        for kind in kinds
    ]
    publish(
        "irl-bayesian",
        "| 20,000 draws of two weights by | distance to the enumerated posterior, uniform prior | normal prior |\n"
        "|---|---:|---:|\n" + "\n".join(rows) + "\n\n"
        "Distances are total variations over cells of 0.2. Asking an expert about the cells that inform most reaches, "
        f"after {first} answers,\nthe regret that random cells leave after 20 ({twenty.value:.3f} of optimal less "
        f"random, 95% interval {twenty.low:.3f} to {twenty.high:.3f}); after 8 it is\n{eight.value:.3f} "
        f"({eight.low:.3f} to {eight.high:.3f}; paired difference {ahead.low:+.3f} to {ahead.high:+.3f}; "
        f"{eight.n} grids, half of whose cells are icy, so that a question there tells nothing; seeds 0 to "
        f"{eight.n - 1}). A robot\nthat learns from pedagogic demonstrations is left with "
        f"{np.mean(robots['pedagogic']):.4f} of regret where an expert's leave {np.mean(robots['expert']):.4f}\n"
        f"(p = {test.p_value:.0e}, {test.n} problems), and with {np.mean(robots['pragmatic']):.4f} where it knows "
        "that it is being taught.",
    )
