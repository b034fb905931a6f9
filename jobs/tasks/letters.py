"""A reward that an untrained model can learn in seconds: the share of an answer that is letters."""

from __future__ import annotations


def share(prompt: list[dict[str, str]], answer: str, label: str | None) -> float:
    """From 0 to 1; an empty answer has none."""
    return sum(character.isalpha() for character in answer) / len(answer) if answer else 0.0
