"""Prompt injection and jailbreak by heuristics: phrases that try to take the model over, and forged structure.

Each kind of sign has a weight. The odds of the kinds found are multiplied, as if they were independent, so that weak
signs add up. Phrases are looked for word by word (signs.py): with this many gaps, the pattern guard's matcher takes
1.1 ms for 1,000 characters, and this 0.2 ms (2026-11).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from raysafe.guards.injection_phrases import PHRASES
from raysafe.guards.readings import readings
from raysafe.guards.scored import ScoredConfig, ScoredGuard
from raysafe.guards.settings import NOTHING, Resources
from raysafe.guards.signs import SignFinder

_BORDER = re.compile(r"[-=#*~_]{3}")
_NEEDS: dict[str, Callable[[str], bool]] = {
    "control tokens": lambda text: "<" in text or "[" in text,
    "forged roles": lambda text: ":" in text or "##" in text or "<" in text or "[" in text,
    "forged borders": lambda text: _BORDER.search(text) is not None,
    "model named as a filter": lambda text: ":" in text,
}
"""What a text has in it where it holds a structure: few do, and this is found in a twentieth of the time."""

STRUCTURES: dict[str, tuple[float, re.Pattern[str]]] = {
    "control tokens": (
        0.84,
        re.compile(r"<\|[a-z_]{2,30}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</?s>\s?\[", re.I),
    ),
    "forged roles": (
        0.93,
        re.compile(
            r"^[ \t#*\[<]{0,8}(?:system|developer)(?: (?:prompt|message|override|note|notice|update))?[\]>*]{0,3} ?:"
            r"|^#{2,4} ?(?:system|instruction|human|assistant)s?:?$"
            r"|</?(?:system|assistant|admin|instructions?)(?:[-_ ]\w{1,20})?>"
            r"|\[/?(?:system|admin|developer)(?: \w{1,12})?\]",
            re.I | re.M,
        ),
    ),
    "forged borders": (
        0.93,
        re.compile(
            r"[-=#*~_]{3,40} ?(?:begin|start|end)(?: of)?(?: \w{1,15}){0,2} "
            r"(?:prompt|instructions?|context|input|data)",
            re.I,
        ),
    ),
    "model named as a filter": (
        0.95,
        re.compile(
            r"^[ \t\[(*]{0,4}(?:DAN|GPT|jailbreak|uncensored|unfiltered|evil)\w{0,8}[\])*]{0,3} ?:", re.I | re.M
        ),
    ),
}


class InjectionConfig(ScoredConfig):
    """`kind: injection` of a policy."""

    kind: Literal["injection"] = "injection"
    name: str = Field(default="injection", min_length=1)
    threshold: float = Field(default=0.95, gt=0, le=1, description="Score from which the guard acts.")
    decode: bool = Field(default=True, description="Judge what the text reads as once codes and disguises are undone.")

    def build(self, resources: Resources = NOTHING) -> InjectionGuard:
        return InjectionGuard(self)


class InjectionGuard(ScoredGuard):
    """Scores the signs of one text."""

    def __init__(self, config: InjectionConfig) -> None:
        super().__init__(config, config.threshold, "tries to take the model over")
        self._decode = config.decode
        self._finder = SignFinder({name: phrases for name, (_, phrases) in PHRASES.items()})

    def score(self, text: str) -> float:
        return max(map(self._signs_score, readings(text) if self._decode else (text,)))

    def signs(self, text: str) -> dict[str, float]:
        """The kinds of signs in a text, and their weights."""
        found = {name: PHRASES[name][0] for name in self._finder.find(text)}
        return found | {
            name: weight
            for name, (weight, pattern) in STRUCTURES.items()
            if _NEEDS[name](text) and pattern.search(text)
        }

    def _signs_score(self, text: str) -> float:
        weights = self.signs(text).values()
        odds = math.prod(weight / (1 - weight) for weight in weights)
        return odds / (1 + odds) if weights else 0.0
