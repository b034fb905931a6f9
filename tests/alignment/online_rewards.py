"""Rewards that a test's policy can learn, or can't."""

from __future__ import annotations

from hashlib import sha256
from itertools import count
from typing import Any


def digits(prompt: Any, answer: str, label: str | None) -> float:
    """Share of the answer's characters that are digits."""
    return sum(character in "0123456789" for character in answer) / max(1, len(answer))


_turns = count()


def noise(prompt: Any, answer: str, label: str | None) -> float:
    """A number that has nothing to do with the answer, so that not even one lucky answer can be learned."""
    return sha256(str(next(_turns)).encode()).digest()[0] / 255
