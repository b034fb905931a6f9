"""The world of a problem, which goes on where an episode ends: what can still be reached or attained in it."""

from __future__ import annotations

from raysafe.rl.envs.problem import Outcome, Problem, State


class Endless(Problem):
    """The same rules with no last step: an agent may leave the goal again."""

    rules: Problem

    def __hash__(self) -> int:
        return hash((type(self), self.limit, self.rules))

    def starts(self) -> list[tuple[float, State]]:
        return self.rules.starts()

    def transitions(self, state: State, action: int) -> list[Outcome]:
        return [outcome._replace(done=False) for outcome in self.rules.transitions(state, action)]


def endless(problem: Problem) -> Endless:
    return Endless(rules=problem, limit=problem.limit)
