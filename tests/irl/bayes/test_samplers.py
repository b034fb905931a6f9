"""Draws against the posterior that is enumerated. What is drawn more often is in tests/verify."""

from __future__ import annotations

import numpy as np
import pytest

from raysafe.errors import ConfigError, DataError, TrainingError
from raysafe.irl.bayes.enumerated import enumerate_posterior
from raysafe.irl.bayes.hamiltonian import Hamiltonian
from raysafe.irl.bayes.policy_walk import PolicyWalk, axis
from raysafe.irl.bayes.priors import BetaPrior, NormalPrior, UniformPrior
from raysafe.irl.bayes.variational import Variational, draw_normal, fit_normal
from tests.irl.bayes.problems import target

PRIOR = UniformPrior(low=-1, high=1)
STEP = 0.4


def test_enumeration_is_the_posterior_on_the_grid() -> None:
    of = target(PRIOR, observed=10)
    found = enumerate_posterior(of, axis(PRIOR, STEP))
    assert found.probabilities.sum() == pytest.approx(1)
    one, other = np.array([-0.4, 0.8]), np.array([0.0, 0.4])
    ratio = np.exp(of.log_density(one)[0] - of.log_density(other)[0])
    assert found.axis_G == pytest.approx([-0.8, -0.4, 0.0, 0.4, 0.8])
    assert found.probabilities[1, 4] / found.probabilities[2, 3] == pytest.approx(ratio)
    fine = enumerate_posterior(of, axis(PRIOR, STEP), within=5)
    assert fine.probabilities.sum() == pytest.approx(1)
    assert fine.mean_F() == pytest.approx(found.mean_F(), abs=0.05)


def test_draws_outside_of_the_cells_count_against_them() -> None:
    found = enumerate_posterior(target(PRIOR, observed=1), axis(PRIOR, STEP))
    assert found.total_variation(np.full((10, 2), 5.0)) == pytest.approx(1)


def test_too_many_points_are_refused() -> None:
    with pytest.raises(DataError, match="can't be enumerated"):
        enumerate_posterior(target(PRIOR), np.linspace(-1, 1, 3000))


@pytest.mark.parametrize("prior", [PRIOR, NormalPrior(scale=0.5)], ids=lambda prior: prior.kind)
def test_policy_walk_draws_from_the_grid_as_enumerated(prior: UniformPrior | NormalPrior) -> None:
    of, walk, rng = target(prior, observed=15), PolicyWalk(step=STEP, reach=2, moves=3), np.random.default_rng(0)
    _, drawn = walk.advance(of, walk.start(of, rng), rng, 1200, warming=False)
    span = None if prior.bounds else 1.6
    assert enumerate_posterior(of, axis(prior, STEP, span)).total_variation(drawn.draws_NF) < 0.1
    assert drawn.densities_N[-1] == pytest.approx(of.log_density(drawn.draws_NF[-1])[0])
    # of another posterior they would not be
    other = enumerate_posterior(target(prior, observed=15, seed=1), axis(prior, STEP, span))
    assert other.total_variation(drawn.draws_NF) > 0.3


@pytest.mark.parametrize("prior", [PRIOR, BetaPrior(alpha=2, beta=2)], ids=lambda prior: prior.kind)
def test_hamiltonian_draws_fall_into_cells_as_enumerated(prior: UniformPrior | BetaPrior) -> None:
    of, sampler, rng = target(prior, observed=15), Hamiltonian(), np.random.default_rng(0)
    state = sampler.start(of, rng)
    for _ in range(3):
        state, _ = sampler.advance(of, state, rng, 60, warming=True)
    tuned = state["step"]
    state, drawn = sampler.advance(of, state, rng, 700, warming=False)
    assert state["step"] == tuned
    assert drawn.accepted == pytest.approx(0.8, abs=0.15)
    assert enumerate_posterior(of, axis(prior, STEP), within=3).total_variation(drawn.draws_NF) < 0.1


def test_a_normal_posterior_is_found_exactly() -> None:
    """Without observations the posterior is the prior, and its evidence 1."""
    of = target(NormalPrior(mean=0.3, scale=0.7), observed=0)
    fitted = fit_normal(of, Variational(samples=64), np.random.default_rng(0))
    assert fitted.mean_F == pytest.approx([0.3, 0.3], abs=1e-4)
    assert fitted.factor_FF @ fitted.factor_FF.T == pytest.approx(0.49 * np.eye(2), abs=1e-3)
    assert fitted.bound == pytest.approx(0, abs=1e-3)


def test_resampling_mends_what_the_normal_misses() -> None:
    of, rng = target(PRIOR, observed=15), np.random.default_rng(0)
    fitted = fit_normal(of, Variational(samples=32), rng)
    expected = enumerate_posterior(of, axis(PRIOR, STEP), within=3)
    plain, _ = draw_normal(of, fitted, 2000, np.random.default_rng(1), resample=False)
    mended, effective = draw_normal(of, fitted, 2000, np.random.default_rng(1), resample=True)
    assert expected.total_variation(mended.draws_NF) < min(0.08, expected.total_variation(plain.draws_NF))
    assert 400 < effective < 2000


def test_the_bound_is_below_the_evidence() -> None:
    of, size = target(PRIOR, observed=15), 2 / 40
    points = -1 + size * (np.arange(40) + 0.5)
    densities = [of.log_density(np.array([one, other]))[0] for one in points for other in points]
    evidence = float(np.logaddexp.reduce(densities) + 2 * np.log(size))
    bound = fit_normal(of, Variational(samples=64), np.random.default_rng(0)).bound
    assert evidence - 0.5 < bound < evidence + 0.05


def test_what_can_not_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="two points between the prior's bounds"):
        PolicyWalk(step=1.5).start(target(PRIOR), np.random.default_rng(0))
    with pytest.raises(TrainingError, match="needs 8 samples"):
        fit_normal(target(PRIOR), Variational(samples=4), np.random.default_rng(0))
    with pytest.raises(ConfigError, match="must be below high"):
        UniformPrior(low=1, high=-1)
