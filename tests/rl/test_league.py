"""Matrix games against worked equilibria; leagues: Elo, who is played, and what is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysafe.errors import DataError, ModelError, StorageError
from raysafe.models.mlp import DiscreteHead, Mlp, MlpConfig
from raysafe.rl.league import League, expected_score
from raysafe.rl.matrix_game import exploitability, solve
from raysafe.rl.policy import Policy
from raysafe.runtime.storage import Folder


def constant(*probabilities: float) -> Policy:
    """The policy that has these probabilities everywhere."""
    network = Mlp(MlpConfig(inputs=1, head=DiscreteHead(actions=len(probabilities))))
    bias = torch.log(torch.tensor(probabilities))
    network.load_state_dict({"layers.0.weight": torch.zeros(len(probabilities), 1), "layers.0.bias": bias})
    return Policy(network)


def test_the_equilibrium_of_a_biased_rock_paper_scissors_is_the_one_worked_by_hand() -> None:
    """Each action is worth the same against (1/4, 1/2, 1/4): 0 - 1/2 + 1/2, 1/4 - 1/4, -1/2 + 1/2."""
    payoff_AB = np.array([[0.0, -1.0, 2.0], [1.0, 0.0, -1.0], [-2.0, 1.0, 0.0]])
    found = solve(payoff_AB)
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.row_A == pytest.approx([0.25, 0.5, 0.25]) and found.column_B == pytest.approx([0.25, 0.5, 0.25])


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5))
def test_an_equilibrium_cannot_be_exploited_and_both_sides_agree_on_its_value(
    seed: int, rows: int, columns: int
) -> None:
    payoff_AB = np.random.default_rng(seed).normal(size=(rows, columns))
    found = solve(payoff_AB)
    assert exploitability(payoff_AB, found.row_A, found.column_B) == pytest.approx(0, abs=1e-7)
    assert found.row_A @ payoff_AB @ found.column_B == pytest.approx(found.value, abs=1e-7)


def test_a_pure_strategy_of_rock_paper_scissors_is_exploited_in_full() -> None:
    payoff_AB = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    rock = np.array([1.0, 0.0, 0.0])
    assert exploitability(payoff_AB, rock, rock) == 1.0
    with pytest.raises(DataError, match="finite matrix"):
        solve(np.array([[np.nan]]))


def test_elo_expects_what_it_says_and_moves_by_the_surprise() -> None:
    assert expected_score(1400, 1000) == pytest.approx(10 / 11)
    league = League(k=32)
    league.add(constant(0.5, 0.5), 0)
    league.record([(0, 1.0)])
    assert league.rating == 1016.0 and league.standings[0].rating == 1000.0
    league.record([(0, 0.5)])
    assert league.rating == pytest.approx(1016 + 32 * (0.5 - expected_score(1016, 1000)))


def test_hard_matching_plays_whom_it_loses_to_and_uniform_plays_all_alike() -> None:
    league = League()
    for step in range(3):
        league.add(constant(0.5, 0.5), step)
    league.record([(0, 1.0)] * 98 + [(1, 0.0)] * 98 + [(2, 0.5)] * 98)
    draw = np.random.default_rng(0)
    hard = np.bincount(league.draw(10_000, "hard", draw), minlength=3) / 10_000
    assert hard == pytest.approx([0.0001 / 1.2302, 0.9801 / 1.2302, 0.25 / 1.2302], abs=0.02)
    assert np.bincount(league.draw(9_000, "uniform", draw)) / 9_000 == pytest.approx([1 / 3] * 3, abs=0.02)
    assert set(league.draw(50, "first", draw)) == {0}


def test_the_average_is_that_of_all_selves() -> None:
    league = League()
    for probabilities in ((0.9, 0.1), (0.1, 0.9), (0.2, 0.8)):
        league.add(constant(*probabilities), 0)
    assert league.average([[0.0], [5.0]]) == pytest.approx(np.array([[0.4, 0.6]] * 2))
    with pytest.raises(ModelError, match="needs policies"):
        League().average([[0.0]])


def test_a_league_is_kept_and_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    folder, league = Folder(tmp_path), League()
    league.add(constant(0.3, 0.7), 0)
    league.save(folder)
    before = (tmp_path / "league/0000/model.safetensors").stat().st_mtime_ns
    league.record([(0, 1.0)])
    league.add(constant(0.9, 0.1), 100)
    league.save(folder)
    assert (tmp_path / "league/0000/model.safetensors").stat().st_mtime_ns == before
    read = League.load(folder, 16.0)
    assert (read.rating, read.standings) == (league.rating, league.standings)
    assert read.average([[0.0]]) == pytest.approx(league.average([[0.0]]))
    (tmp_path / "league.json").write_text("{}")
    with pytest.raises(StorageError, match="damaged"):
        League.load(folder, 16.0)
