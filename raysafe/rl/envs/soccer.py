"""Soccer on a small field, after Littman (1994, "Markov games as a framework for multi-agent reinforcement learning").

Littman's: two players, one has the ball; both choose one of five moves, which are carried out in an order drawn by a
coin; a move into the other's place doesn't happen and gives the ball to the other; carrying the ball into the
opponent's goal scores and ends the game. Who can be foreseen is beaten, so good policies are random. Ours: the field, 2
by 3 with goals as wide (his is 4 by 5 with goals of two), which is solved exactly in half a second.
"""

from __future__ import annotations

from raysafe.rl.envs.game import Game
from raysafe.rl.envs.grid import Cell, Grid
from raysafe.rl.envs.problem import Action, Outcome, State

MAP = Grid(
    "#####",
    "<   >",
    "<   >",
    "#####",
)
GOALS = ">", "<"
"""Where the first player scores, and the second."""
STARTS: tuple[Cell, Cell] = ((1, 1), (2, 3))
MIRRORED = {Action.LEFT: Action.RIGHT, Action.RIGHT: Action.LEFT}


class Soccer(Game):
    """States: (cell of the first player, cell of the second, who has the ball). Both see themselves play to the right:
    the second player's board is mirrored, and so are its moves."""

    tiles = "# <>AaBb"

    def starts(self) -> list[tuple[float, State]]:
        return [(0.5, (*STARTS, ball)) for ball in (0, 1)]

    def transitions(self, state: State, actions: tuple[int, int]) -> list[Outcome]:
        meant = actions[0], MIRRORED.get(Action(actions[1]), actions[1])
        found: dict[tuple[State, float], float] = {}
        for order in ((0, 1), (1, 0)):
            after, scored = state, 0.0
            for player in order:
                if not scored:
                    after, scored = _moved(after, player, meant[player])
            found[after, scored] = found.get((after, scored), 0.0) + 0.5
        return [Outcome(chance, after, scored, scored != 0) for (after, scored), chance in found.items()]

    def board(self, state: State, player: int) -> tuple[str, ...]:
        """Capitals have the ball; A is who looks."""
        own, other = ("A", "b") if state[2] == player else ("a", "B")
        rows = MAP.drawn({state[player]: own, state[1 - player]: other})
        return rows if player == 0 else tuple(row[::-1].translate(str.maketrans("<>", "><")) for row in rows)


def _moved(state: State, player: int, action: int) -> tuple[State, float]:
    """State after one player's move, and what it scored for the first player."""
    cells, ball = [state[0], state[1]], state[2]
    to = MAP.beside(cells[player], action)
    tile = MAP.at(to)
    scores = tile == GOALS[player] and ball == player
    if to == cells[1 - player]:
        return (*cells, 1 - player), 0.0
    if tile == " " or scores:
        cells[player] = to
    return (*cells, ball), (1.0 if player == 0 else -1.0) if scores else 0.0
