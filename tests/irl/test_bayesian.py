"""Fits from trajectories: the mean reward, what is doubted, and chains that go on where they were interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raysafe.errors import ConfigError, StorageError
from raysafe.irl.bayes.chains import plan
from raysafe.irl.bayes.hamiltonian import Hamiltonian
from raysafe.irl.bayes.policy_walk import PolicyWalk
from raysafe.irl.bayes.priors import NormalPrior
from raysafe.irl.bayes.variational import Variational
from raysafe.irl.bayesian import BayesianConfig, BayesianIRL
from raysafe.rl.planning import evaluate, optimal
from raysafe.runtime.storage import Folder
from tests.irl.bayes.problems import ACTIONS, BETA, GAMMA, demonstrations, problem

WEIGHTS_F = np.array([0.6, -0.4])
SAMPLERS = [PolicyWalk(step=0.1, reach=4), Hamiltonian(), Variational(samples=32)]


def fitted(sampler: PolicyWalk | Hamiltonian | Variational, folder: Folder | None = None, **settings) -> BayesianIRL:
    mdp, features = problem()
    config = BayesianConfig(**({"beta": BETA, "sampler": sampler, "chains": 2, "warmup": 60, "draws": 150} | settings))
    method = BayesianIRL(mdp, features.array, GAMMA, config=config)
    method.fit(demonstrations(mdp, features, WEIGHTS_F, 10, 10), folder=folder)
    return method


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.kind)
def test_the_mean_rewards_policy_is_nearly_optimal_for_the_demonstrators(sampler) -> None:
    method = fitted(sampler)
    mdp, features = problem()
    true_SA = features.rewards(WEIGHTS_F)
    best, worst = optimal(mdp, true_SA, GAMMA).values.mean(), -optimal(mdp, -true_SA, GAMMA).values.mean()
    learned = evaluate(mdp, method.policy(), true_SA, GAMMA).mean()
    assert best - learned < 0.05 * (best - worst)
    assert method.occupancy().sum() == pytest.approx(1 / (1 - GAMMA))
    assert method.reward().table_SA() == pytest.approx(features.rewards(method.posterior.mean_F))
    assert method.reward().card.learned_by == "bayesian"


def test_chains_go_on_after_an_interruption_as_if_there_had_been_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fitted(SAMPLERS[1]).posterior.chains.draws_CNF
    done = 0

    def interrupted(*arguments, **named):
        nonlocal done
        done += 1
        if done == 17:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    real = Hamiltonian.advance
    monkeypatch.setattr(Hamiltonian, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fitted(SAMPLERS[1], Folder(tmp_path))
    kept = {name: (tmp_path / name).stat().st_mtime_ns for name in Folder(tmp_path).list()}
    assert len(kept) == 16
    assert np.array_equal(fitted(SAMPLERS[1], Folder(tmp_path)).posterior.chains.draws_CNF, whole)
    assert done == 17 + 2 * len(plan(60, 150)) - 16
    assert all((tmp_path / name).stat().st_mtime_ns == when for name, when in kept.items())


def test_kept_chains_of_another_problem_are_refused(tmp_path: Path) -> None:
    fitted(SAMPLERS[0], Folder(tmp_path), draws=4, warmup=0)
    with pytest.raises(StorageError, match="other demonstrations or settings"):
        fitted(SAMPLERS[0], Folder(tmp_path), draws=4, warmup=0, prior=NormalPrior(scale=2))
    (tmp_path / "chain-0-000.safetensors").write_bytes(b"half")
    with pytest.raises(StorageError, match="damaged"):
        fitted(SAMPLERS[0], Folder(tmp_path), draws=4, warmup=0)


def test_few_draws_are_doubted_and_many_are_not() -> None:
    assert any("independent draws" in doubt for doubt in fitted(SAMPLERS[1], draws=20).posterior.doubts)
    assert not fitted(SAMPLERS[2], draws=800).posterior.doubts


def test_nothing_is_known_before_fit() -> None:
    mdp, features = problem()
    with pytest.raises(ConfigError, match=r"call fit\(trajectories\) first"):
        BayesianIRL(mdp, features.array, GAMMA).reward()


def test_with_a_horizon_the_policy_is_one_a_step() -> None:
    mdp, features = problem()
    config = BayesianConfig(beta=BETA, chains=1, warmup=40, draws=40)
    method = BayesianIRL(mdp, features.array, 1.0, horizon=10, config=config)
    method.fit(demonstrations(mdp, features, WEIGHTS_F, 5, 10))
    assert method.policy().shape == (10, mdp.states, ACTIONS)
    assert method.occupancy().sum() == pytest.approx(10)


@pytest.mark.ray
def test_chains_on_ray_draw_what_one_process_draws(ray_cluster: None) -> None:
    one, many = fitted(SAMPLERS[0]), fitted(SAMPLERS[0], workers=2)
    assert np.array_equal(one.posterior.chains.draws_CNF, many.posterior.chains.draws_CNF)
