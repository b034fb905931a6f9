"""Self-play: who sits where, what is kept, and that a league's average is hardly exploitable, unlike a control's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from raysafe.errors import ConfigError
from raysafe.rl.league import League
from raysafe.rl.matrix_game import exploitability
from raysafe.rl.policy import load_policy
from raysafe.rl.self_play import SelfPlayJob
from raysafe.runtime.run import Run
from tests.rl.games import BIASED

pytestmark = pytest.mark.ray
GAME = "tests.rl.games:BiasedRockPaperScissors"
SMOOTH: dict[str, Any] = {
    "network": {"hidden": [8]}, "batch_size": 256, "minibatch_size": 256, "epochs": 4, "learning_rate": 0.02,
    "schedule": "constant", "gamma": 0.01, "entropy_weight": 0.45,
}  # fmt: skip
"""An entropy bonus makes each self a smooth best response, which fictitious play needs of a learner that samples."""


def job(folder: Path, **change: Any) -> SelfPlayJob:
    return SelfPlayJob.parse({"env": GAME, "storage": str(folder), "ppo": SMOOTH, "steps": 768, **change})


def test_the_learner_takes_either_seat_and_every_slot_and_keeps_them_through_a_game() -> None:
    from raysafe.rl.past_self import LEARNER, Seats

    seats = Seats(["row", "column"], 3, seed=0)
    found = set()
    for number in range(200):
        episode = SimpleNamespace(id_=str(number), agent_ids=set())
        both = tuple(seats(agent, episode) for agent in ("column", "row", "column"))
        assert both[0] == both[2] and (both[0] == LEARNER) != (both[1] == LEARNER)
        found.add(both[:2])
    assert len(found) == 6


def test_a_run_leaves_a_league_ratings_and_a_model_and_goes_on_where_it_stood(tmp_path: Path) -> None:
    run = job(tmp_path).run()
    rows = run.metrics
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows) and len(rows) >= 2
    assert all(row["games"] >= 32 and 0 <= row["win_rate"] <= 1 for row in rows)
    league = League.load(run.folder, 16.0)
    assert len(league.policies) == len(rows) + 1 and sum(s.games for s in league.standings) == sum(
        row["games"] for row in rows
    )
    card = load_policy(run.folder.local_path("model")).card
    assert card is not None and card.steps == rows[-1]["step"]
    assert (run.folder.local_path("model") / "policy.onnx").exists()
    more = job(tmp_path, steps=rows[-1]["step"] + 300)
    again = more.run(resume=Run.open(run.uri))
    assert again.metrics[: len(rows)] == rows and len(again.metrics) > len(rows)
    assert League.load(run.folder, 16.0).standings[0].step == 0


def test_a_game_that_is_none_of_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MultiAgentEnv with two"):
        job(tmp_path, env="gymnasium:Env").run()
    with pytest.raises(ConfigError, match="must be constant"):
        job(tmp_path, ppo={**SMOOTH, "schedule": "linear"})


@pytest.mark.slow
def test_a_leagues_average_is_hardly_exploitable_and_that_of_training_against_one_opponent_is(tmp_path: Path) -> None:
    """Exploitability is exact (linear programming's payoffs); of a pure strategy it is 1 or 2 here."""
    found = {}
    for matching in ("uniform", "first"):
        run = job(tmp_path, matching=matching, steps=15_360).run()
        average_A = League.load(run.folder, 16.0).average(np.ones((1, 1)))[0]
        found[matching] = exploitability(BIASED, average_A, average_A)
    assert found["uniform"] < 0.25 < 0.35 < found["first"]
