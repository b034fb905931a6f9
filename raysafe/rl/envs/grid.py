"""Boards of characters: where things are and where a move leads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysafe.rl.envs.problem import Action

Cell = tuple[int, int]
"""Row and column."""

STEPS: Mapping[int, Cell] = {
    Action.UP: (-1, 0),
    Action.DOWN: (1, 0),
    Action.LEFT: (0, -1),
    Action.RIGHT: (0, 1),
    Action.STAY: (0, 0),
}


class Grid:
    """A map, read once; `A` is where the agent starts."""

    def __init__(self, *rows: str) -> None:
        self.rows = rows

    def cells(self, tiles: str) -> list[Cell]:
        """Where the map has one of the tiles, row by row."""
        return [
            (row, column) for row, text in enumerate(self.rows) for column, tile in enumerate(text) if tile in tiles
        ]

    def cell(self, tile: str) -> Cell:
        """The only place of a tile."""
        (found,) = self.cells(tile)
        return found

    def at(self, cell: Sequence[int]) -> str:
        return self.rows[cell[0]][cell[1]]

    def beside(self, cell: Cell, action: int) -> Cell:
        """The neighbour in the direction of a move, whatever is there."""
        down, right = STEPS[action]
        return cell[0] + down, cell[1] + right

    def move(self, cell: Cell, action: int) -> Cell:
        """Where a move leads: nowhere against a wall."""
        to = self.beside(cell, action)
        return cell if self.at(to) == "#" else to

    def drawn(self, things: Mapping[Cell, str], without: str = "A") -> tuple[str, ...]:
        """The map with things drawn over it, and floor in place of the tiles in `without`."""
        return tuple(
            "".join(things.get((row, column), " " if tile in without else tile) for column, tile in enumerate(text))
            for row, text in enumerate(self.rows)
        )
