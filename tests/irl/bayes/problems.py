"""A small MDP with two weights, and demonstrations in it."""

from __future__ import annotations

import numpy as np

from raysafe.data.trajectories import Trajectory
from raysafe.irl.bayes.likelihood import Likelihood
from raysafe.irl.bayes.priors import Prior
from raysafe.irl.bayes.target import Target
from raysafe.irl.features import Features
from raysafe.rl.mdp import Floats, TabularMDP

STATES, ACTIONS, WEIGHTS = 6, 3, 2
GAMMA, BETA = 0.9, 2.0


def problem(seed: int = 0) -> tuple[TabularMDP, Features]:
    rng = np.random.default_rng(seed)
    mdp = TabularMDP(rng.dirichlet(np.full(STATES, 0.3), (STATES, ACTIONS)), np.ones(STATES) / STATES)
    return mdp, Features(rng.normal(size=(STATES, WEIGHTS)), STATES, ACTIONS)


def demonstrations(
    mdp: TabularMDP, features: Features, weights_F: Floats, episodes: int, steps: int, seed: int = 0
) -> list[Trajectory]:
    """Of a demonstrator that is rational to degree BETA."""
    rng = np.random.default_rng(seed)
    none_SA = np.zeros((mdp.states, mdp.actions))
    q_SA = Likelihood(mdp, features, none_SA, beta=BETA, gamma=GAMMA).values.at(weights_F)[1]
    policy_SA = np.exp(BETA * (q_SA - q_SA.max(axis=1, keepdims=True)))
    policy_SA /= policy_SA.sum(axis=1, keepdims=True)
    found = []
    for _ in range(episodes):
        states, actions = [rng.choice(mdp.states, p=mdp.initial_S)], []
        for _ in range(steps):
            actions.append(rng.choice(mdp.actions, p=policy_SA[states[-1]]))
            states.append(rng.choice(mdp.states, p=np.asarray(mdp.transitions)[states[-1], actions[-1]]))
        found.append(Trajectory(states_T1=np.array(states), actions_T=np.array(actions)))
    return found


def target(prior: Prior, observed: int = 40, seed: int = 0) -> Target:
    """The posterior after actions in states that were drawn uniformly."""
    mdp, features = problem(seed)
    seen_SA = np.zeros((STATES, ACTIONS))
    for trajectory in demonstrations(mdp, features, np.array([0.6, -0.4]), observed, 1, seed):
        assert trajectory.states_T1 is not None
        seen_SA[trajectory.states_T1[0], trajectory.actions_T[0]] += 1
    return Target(Likelihood(mdp, features, seen_SA, beta=BETA, gamma=GAMMA), prior)
