"""A league of past selves: who is played against, how they stand, and the policy that they are on average.

Against opponents that are drawn evenly from all past selves, an agent that answers them best plays fictitious play:
in a two-player zero-sum game its average over time approaches an equilibrium, though each self may be far from it
(Brown 1951; Heinrich, Lanctot & Silver 2015). Ratings are Elo's, by games of training.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raysafe.errors import ModelError, StorageError
from raysafe.rl.policy import Policy, load_policy, save_policy
from raysafe.runtime.storage import Folder

Matching = Literal["uniform", "hard", "first"]
FIRST_RATING = 1000.0
_SCALE = 400.0
TABLE, FOLDER = "league.json", "league"


@dataclass
class Standing:
    """One past self: when it was taken, its rating then, and the learner's games against it since."""

    step: int
    rating: float
    games: int = 0
    wins: float = 0.0
    """The learner's; a draw is half a win."""

    @property
    def win_rate(self) -> float:
        """The learner's, with one won and one lost game before the first: an unknown opponent is even."""
        return (self.wins + 1.0) / (self.games + 2.0)


class League:
    """Past selves in the order in which they were taken, and the learner's rating."""

    def __init__(self, k: float = 16.0) -> None:
        """k: Elo's step, the most that one game changes."""
        self.k, self.rating = k, FIRST_RATING
        self.policies: list[Policy] = []
        self.standings: list[Standing] = []

    def add(self, policy: Policy, step: int) -> None:
        """Take a snapshot of the learner."""
        self.policies.append(policy)
        self.standings.append(Standing(step, self.rating))

    def draw(self, count: int, matching: Matching, generator: np.random.Generator) -> list[int]:
        """Opponents, each by itself. hard: the more often it wins the oftener, (1 - p)^2 (Vinyals et al. 2019)."""
        if matching == "first":
            return [0] * count
        weights = np.ones(len(self.standings))
        if matching == "hard":
            weights = np.asarray([(1.0 - standing.win_rate) ** 2 for standing in self.standings])
        return generator.choice(len(weights), size=count, p=weights / weights.sum()).tolist()

    def record(self, games: Iterable[tuple[int, float]]) -> None:
        """Games of the learner as (opponent, score): 1 won, 0.5 drawn, 0 lost. Past selves' ratings stand."""
        for opponent, score in games:
            standing = self.standings[opponent]
            standing.games += 1
            standing.wins += score
            self.rating += self.k * (score - expected_score(self.rating, standing.rating))

    def average(self, obs_BD: ArrayLike) -> NDArray[np.float64]:
        """(B, A): the mean of all past selves' probabilities, which is how they act when one is drawn for each game."""
        told = [policy.act(obs_BD).probabilities_BA for policy in self.policies]
        rows = [probabilities_BA for probabilities_BA in told if probabilities_BA is not None]
        if not rows or len(rows) < len(told):
            raise ModelError("an average needs policies with probabilities of discrete actions")
        return np.mean(rows, axis=0)

    def save(self, folder: Folder) -> None:
        """Write what isn't there yet: each past self as a policy's folder, and the table, last."""
        present = set(folder.list(FOLDER))
        for number, policy in enumerate(self.policies):
            if (name := f"{number:04d}") not in present:
                with tempfile.TemporaryDirectory() as local:
                    save_policy(policy, local)
                    folder.upload(local, f"{FOLDER}/{name}")
        folder.write(TABLE, json.dumps(self.table(), indent=2))

    def table(self) -> dict[str, Any]:
        """Ratings and games, without the policies."""
        return {"rating": self.rating, "standings": [asdict(standing) for standing in self.standings]}

    @classmethod
    def load(cls, folder: Folder, k: float, table: dict[str, Any] | None = None) -> League:
        """The league as it was saved, or as an earlier `table` says, whose later selves are deleted.

        Raises StorageError or ModelError where it is damaged.
        """
        league = cls(k)
        try:
            found = json.loads(folder.read(TABLE)) if table is None else table
            league.rating = float(found["rating"])
            league.standings = [Standing(**standing) for standing in found["standings"]]
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{folder.join(TABLE)} is damaged: {error}; restore it, or delete the run") from None
        for name in folder.list(FOLDER)[len(league.standings) :]:
            folder.remove(f"{FOLDER}/{name}")
        for number in range(len(league.standings)):
            with tempfile.TemporaryDirectory() as local:
                folder.download(f"{FOLDER}/{number:04d}", local)
                league.policies.append(load_policy(Path(local)))
        return league

    def rows(self) -> Sequence[Sequence[str]]:
        """A table of all past selves for people, the newest last."""
        head = ["self", "step", "rating", "games", "win rate"]
        body = [
            [
                str(number),
                f"{s.step:,}",
                f"{s.rating:.0f}",
                f"{s.games:,}",
                f"{s.wins / s.games:.2f}" if s.games else "",
            ]
            for number, s in enumerate(self.standings)
        ]
        return [head, *body]


def expected_score(rating: float, other: float) -> float:
    """Elo's: 1 / (1 + 10^((other - rating) / 400))."""
    return 1.0 / (1.0 + 10.0 ** ((other - rating) / _SCALE))
