"""Rewards that a test's policy can learn, or can't."""

from __future__ import annotations

from hashlib import sha256
from typing import Any


def digits(prompt: Any, answer: str, label: str | None) -> float:
    """Share of the answer's characters that are digits."""
    return sum(character in "0123456789" for character in answer) / max(1, len(answer))


def noise(prompt: Any, answer: str, label: str | None) -> float:
    """As large and as varied a number, which says nothing of the answer's digits."""
    return sha256(answer.encode()).digest()[0] / 255
