"""Two-player games: rules by hand, exact equilibria against closed forms and best answers."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from raysafe.errors import ConfigError
from raysafe.rl.envs.game import Game, game_table
from raysafe.rl.envs.minimax import Equilibrium, exploitability, minimax
from raysafe.rl.envs.problem import Action, Outcome, State
from raysafe.rl.envs.soccer import Soccer
from raysafe.rl.matrix_game import guarantees

GAMMA = 0.9
UP, DOWN, LEFT, RIGHT, STAY = Action


class Pennies(Game):
    """Matching pennies, a win worth 3 with the first coin and 1 with the second; a match is played again, at 0.5."""

    actions = 2
    tiles = " "

    def starts(self) -> list[tuple[float, State]]:
        return [(1.0, (0,))]

    def transitions(self, state: State, actions: tuple[int, int]) -> list[Outcome]:
        won = (3.0 if actions[0] == 0 else 1.0) if actions[0] == actions[1] else -1.0
        return [Outcome(0.5, (0,), won, False), Outcome(0.5, (1,), won, True)]


@cache
def soccer() -> Equilibrium:
    return minimax(Soccer(), GAMMA)


def test_matrix_games_by_their_closed_form() -> None:
    """2 by 2 without a saddle point: v = (ad - bc) / (a + d - b - c); and a saddle point."""
    games_SAB = np.array([[[3.0, -1.0], [-1.0, 1.0]], [[2.0, 5.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    values_S, first_SA = guarantees(games_SAB)
    assert values_S == pytest.approx([2 / 6, 2, 0], abs=1e-9)
    assert first_SA[0] == pytest.approx([1 / 3, 2 / 3])
    assert first_SA[1] == pytest.approx([1, 0])


def test_a_repeated_matrix_game_is_worth_its_discounted_sum() -> None:
    found = minimax(Pennies(), 0.8)
    assert found.value == pytest.approx((1 / 3) / (1 - 0.8 * 0.5))
    assert found.first_SA[0] == pytest.approx([1 / 3, 2 / 3])
    assert found.second_SB[0] == pytest.approx([1 / 3, 2 / 3])


def test_nobody_gains_by_leaving_the_equilibrium() -> None:
    """Best answers by planning in the MDP that the other's policy leaves."""
    found = soccer()
    assert exploitability(Soccer(), GAMMA, found.first_SA, found.second_SB) == pytest.approx(0, abs=1e-7)
    assert len(found.values_S) == 80


def test_soccer_is_fair_and_its_values_are_mirrored() -> None:
    """A state and its mirror with the places exchanged are worth opposite values."""
    found, states = soccer(), game_table(Soccer()).states
    index = {state: number for number, state in enumerate(states)}
    assert found.value == pytest.approx(0, abs=1e-7)
    for number, (first, second, ball) in enumerate(states):
        other = ((second[0], 4 - second[1]), (first[0], 4 - first[1]), 1 - ball)
        if other in index:
            assert found.values_S[index[other]] == pytest.approx(-found.values_S[number], abs=1e-6)
    assert found.values_S[index[(2, 3), (1, 1), 0]] == pytest.approx(1)


def test_who_can_be_foreseen_is_beaten() -> None:
    """The likeliest move of the equilibrium, always: the other's best answer wins by much."""
    found = soccer()
    foreseen_SA = np.eye(5)[found.first_SA.argmax(axis=1)]
    foreseen_SB = np.eye(5)[found.second_SB.argmax(axis=1)]
    assert exploitability(Soccer(), GAMMA, foreseen_SA, foreseen_SB) > 0.15


def test_moves_by_hand() -> None:
    """Into the other: stopped, and the ball changes hands; whose turn comes first decides who is where."""
    game = Soccer()
    run = game.transitions(((2, 2), (2, 3), 0), (RIGHT, STAY))
    assert run == [Outcome(1.0, ((2, 2), (2, 3), 1), 0.0, False)]
    cross = game.transitions(((2, 2), (1, 3), 0), (RIGHT, DOWN))
    assert [(chance, state) for chance, state, _, _ in cross] == [
        (0.5, ((2, 3), (1, 3), 0)),
        (0.5, ((2, 2), (2, 3), 1)),
    ]
    assert game.transitions(((2, 3), (1, 1), 0), (RIGHT, STAY)) == [Outcome(1.0, ((2, 4), (1, 1), 0), 1.0, True)]
    assert game.transitions(((1, 3), (2, 1), 1), (STAY, RIGHT)) == [Outcome(1.0, ((1, 3), (2, 0), 1), -1.0, True)]
    assert game.transitions(((2, 3), (1, 1), 1), (RIGHT, STAY)) == [Outcome(1.0, ((2, 3), (1, 1), 1), 0.0, False)]


def test_both_see_the_same_game() -> None:
    """With the places exchanged and the field mirrored, each sees what the other saw."""
    game = Soccer()
    assert (
        game.board(((2, 1), (1, 2), 0), 0) == game.board(((1, 2), (2, 3), 1), 1) == ("#####", "< b >", "<A  >", "#####")
    )
    assert game.board(((2, 1), (1, 2), 0), 1) == ("#####", "< a >", "<  B>", "#####")


def test_a_discount_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"gamma must be in \[0, 1\), got 1"):
        minimax(Pennies(), 1.0)


@pytest.mark.ray
def test_rllib_plays_the_game() -> None:
    """Its own checker of multi-agent environments, and the same seeds and moves twice."""
    from ray.rllib.env.multi_agent_env import MultiAgentEnv

    from raysafe.rl.envs.match import Match

    assert issubclass(Match, MultiAgentEnv)
    games = []
    for _ in range(2):
        env: Any = Match(limit=20)
        draw = np.random.default_rng(0)
        trace = [env.reset(seed=4)[0]["first"].tolist()]
        for _ in range(200):
            obs, rewards, ends, cuts, _ = env.step({agent: int(draw.integers(5)) for agent in env.agents})
            assert all(env.observation_spaces[agent].contains(seen) for agent, seen in obs.items())
            assert rewards["first"] == -rewards["second"]
            trace.append((obs["first"].tolist(), rewards["first"]))
            if ends["__all__"] or cuts["__all__"]:
                with pytest.raises(ConfigError, match="the game is over"):
                    env.step(dict.fromkeys(env.agents, 0))
                env.reset()
        games.append(trace)
    assert games[0] == games[1]
