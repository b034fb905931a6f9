"""Boards as pictures and as text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysafe.errors import ConfigError

TILE = 16
"""Side of a tile in pixels."""

COLOURS = {
    "#": (84, 88, 96),
    " ": (232, 230, 224),
    "A": (38, 110, 214),
    "Z": (120, 120, 190),
    "G": (46, 160, 84),
    "I": (200, 120, 220),
    "B": (150, 84, 200),
    "X": (160, 110, 60),
    "P": (230, 180, 40),
    "S": (214, 60, 60),
    ">": (240, 200, 60),
    "<": (240, 200, 60),
    "^": (240, 200, 60),
    "v": (240, 200, 60),
    "W": (40, 90, 150),
    "D": (150, 60, 110),
    "L": (224, 84, 30),
    "C": (250, 196, 30),
    "1": (214, 170, 90),
    "2": (200, 140, 70),
    "f": (196, 232, 190),
    "n": (226, 226, 206),
    "o": (240, 196, 186),
}


def rgb(board: tuple[str, ...]) -> NDArray[np.uint8]:
    """(rows * TILE, columns * TILE, 3); a line of a darker shade parts the tiles."""
    colours_HW3 = np.array([[COLOURS[tile] for tile in row] for row in board], dtype=np.uint8)
    picture = colours_HW3.repeat(TILE, axis=0).repeat(TILE, axis=1)
    picture[::TILE] = picture[::TILE] // 8 * 7
    picture[:, ::TILE] = picture[:, ::TILE] // 8 * 7
    return picture


def ansi(board: tuple[str, ...]) -> str:
    return "\n".join(board) + "\n"


def check_mode(mode: str | None) -> str | None:
    """The mode, where it is one; raises ConfigError."""
    if mode not in (None, "rgb_array", "ansi"):
        raise ConfigError(f"render_mode must be 'rgb_array' or 'ansi', got {mode!r}")
    return mode
