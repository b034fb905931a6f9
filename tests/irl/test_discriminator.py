"""The discriminator: its loss and rewards by the papers' formulas, and its optimum, the ratio of densities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from raysafe.data.trajectories import Trajectory
from raysafe.errors import DataError
from raysafe.irl.adversarial import AdversarialExtension, check_demonstrations
from raysafe.irl.discriminator import Discriminator, Objective, Transitions, transitions_of
from raysafe.irl.settings import AdversarialSettings
from raysafe.rl.transitions import TransitionShape

SHAPE = TransitionShape(obs_features=2, actions=2, sees="state-action")


def walks(count: int, seed: int, *, steps: int = 5, terminated: bool = False) -> list[Trajectory]:
    draw = np.random.default_rng(seed)
    return [
        Trajectory(
            obs_T1D=draw.normal(size=(steps + 1, 2)), actions_T=draw.integers(0, 2, steps), terminated=terminated
        )
        for _ in range(count)
    ]


def seen(trajectories: list[Trajectory], horizon: int | None = 10) -> Transitions:
    return transitions_of(trajectories, SHAPE, horizon=horizon, gamma=0.9)


def made(objective: Objective, expert: Transitions, *, shaped: bool = True) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(SHAPE, expert, objective=objective, gamma=0.9, hidden=(8,), activation="tanh", shaped=shaped)


def test_the_loss_is_the_cross_entropy_of_the_papers_discriminator() -> None:
    expert, agent = seen(walks(3, 0)), seen(walks(4, 1))
    logps = [torch.randn(len(side)) - 1 for side in (expert, agent)]
    airl = made("airl", expert)
    # D = exp(f) / (exp(f) + pi)
    shares = [
        airl.f(side).exp() / (airl.f(side).exp() + lp.exp()) for side, lp in zip((expert, agent), logps, strict=True)
    ]
    expected = binary_cross_entropy(shares[0], torch.ones_like(shares[0]))
    expected = expected + binary_cross_entropy(shares[1], torch.zeros_like(shares[1]))
    torch.testing.assert_close(airl.loss(expert, logps[0], agent, logps[1]), expected)
    rewards = torch.log(shares[1]) - torch.log(1 - shares[1])
    np.testing.assert_allclose(airl.rewards(agent, logps[1]), 0.1 * rewards.detach().numpy(), rtol=1e-4, atol=1e-6)
    gail = made("gail", expert, shaped=False)
    share = torch.sigmoid(gail.f(agent))
    np.testing.assert_allclose(
        gail.rewards(agent, logps[1]), -0.1 * torch.log(1 - share).detach().numpy(), rtol=1e-4, atol=1e-6
    )


def test_a_potential_changes_no_episodes_discounted_sum_but_by_its_ends() -> None:
    one = walks(1, 3, terminated=True)
    steps = seen(one)
    shaped = made("airl", steps)
    assert shaped.h is not None
    added = (shaped.f(steps) - shaped.g(steps.steps_NF)[:, 0]).detach().numpy()
    total = float(added @ 0.9 ** np.arange(len(steps)))
    # the potential beyond the terminal state is 0
    assert total == pytest.approx(-shaped.h(steps.obs_ND[:1])[0, 0].item(), abs=1e-5)


def fitted(expert: Transitions, agent: Transitions, steps: int = 400) -> Discriminator:
    found = made("gail", expert, shaped=False)
    optimiser = torch.optim.Adam(found.parameters(), lr=0.02)
    nothing = torch.zeros(max(len(expert), len(agent)))
    for _ in range(steps):
        optimiser.zero_grad()
        found.loss(expert, nothing[: len(expert)], agent, nothing[: len(agent)]).backward()
        optimiser.step()
    return found


def test_the_optimum_is_the_logarithm_of_the_ratio_of_densities() -> None:
    def standing(at: float, count: int, action: int) -> list[Trajectory]:
        return [Trajectory(obs_T1D=[[at, 0.0], [at, 0.0]], actions_T=[action])] * count

    # in state 0 the expert acts 3 to 1, the agent 1 to 1
    expert = seen(standing(0.0, 3, 0) + standing(0.0, 1, 1) + standing(1.0, 4, 1))
    agent = seen(standing(0.0, 2, 0) + standing(0.0, 2, 1) + standing(1.0, 4, 1))
    logits = fitted(expert, agent).f(agent.take(torch.tensor([0, 2, 4])))
    np.testing.assert_allclose(logits.detach().numpy(), np.log([3 / 2, 1 / 2, 1.0]), atol=0.02)


def test_the_absorbing_state_is_worth_the_ratio_of_the_time_spent_in_it() -> None:
    # of 10 steps the expert's episodes last 8 and the agent's 2
    expert, agent = seen(walks(5, 0, steps=8, terminated=True)), seen(walks(5, 0, steps=2, terminated=True))
    assert (expert.absorbed, agent.absorbed) == (0.2, 0.8)
    found = fitted(expert, agent)
    assert float(found.absorbing) == pytest.approx(np.log(0.2 / 0.8), abs=0.02)
    # to die is punished at once with all that is lost by it
    last = found.rewards(agent, torch.zeros(len(agent)))[1]
    alive = replace(agent, terminated_N=torch.zeros(len(agent)))
    beyond = 0.9 * float(torch.nn.functional.softplus(found.absorbing))
    assert last - found.rewards(alive, torch.zeros(len(agent)))[1] == pytest.approx(beyond, rel=1e-4)


def test_an_episode_that_is_only_cut_off_has_no_absorbing_state() -> None:
    assert seen(walks(3, 0)).absorbed == 0.0
    assert seen(walks(3, 0, terminated=True), horizon=None).absorbed == pytest.approx(9 / (9 + 5))


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (Trajectory(obs_T1D=np.zeros((2, 3)), actions_T=[0]), "has 3 numbers, one of Some-v0 2"),
        (Trajectory(obs_T1D=np.zeros((2, 2)), actions_T=[[0.5]]), "actions are vectors, those of Some-v0 numbers"),
        (Trajectory(obs_T1D=np.zeros((2, 2)), actions_T=[2]), "have action 2, Some-v0 has 2, counted from 0"),
    ],
)
def test_demonstrations_of_another_environment_are_refused(one: Trajectory, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_demonstrations([one], SHAPE, "Some-v0")


def test_states_alone_cannot_be_imitated_so() -> None:
    with pytest.raises(DataError, match="needs observations"):
        tabular = [Trajectory(states_T1=[0, 1], actions_T=[0])]
        AdversarialExtension(AdversarialSettings(), "airl", tabular, gamma=0.9, steps=1, seed=0)
