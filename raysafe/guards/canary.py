"""Canary: a random word planted in the system prompt; an answer that shows it, or repeats the prompt, is stopped.

- kind: canary
  action: block
  overlap: 0.5            # of the system prompt's 8-grams of characters, in the answer

The word is new in every exchange, so nobody can learn to leave it out. It is looked for whole, in part, backwards, with
separators or invisible characters inside, and in base64 and hex.
"""

from __future__ import annotations

import base64
import re
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from pydantic import Field

from raysafe.guards.cutting import Held
from raysafe.guards.guard import Exchange, OutputFilter, Stage, Step, Verdict
from raysafe.guards.settings import NOTHING, GuardConfig, Resources

_ALPHABET = string.ascii_lowercase + string.digits
_ASCII = frozenset(string.ascii_letters + string.digits)
_NO_LETTER = re.compile(r"[^A-Za-z0-9]+")
GRAM = 8
"""Characters of the grams of which a prompt's overlap with an answer is counted."""


def canary_token(characters: int = 20) -> str:
    """A random word of lower-case letters and digits: 5.2 bits a character."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(characters))


class CanaryConfig(GuardConfig):
    """`kind: canary` of a policy. It stands at both stages: it plants at the input and looks at the output."""

    kind: Literal["canary"] = "canary"
    name: str = Field(default="canary", min_length=1)
    action: Literal["block", "hold"] = Field(default="block", description="What is done to an answer that leaks.")
    plant: bool = Field(default=True, description="Put a random word before the system prompt, where there is one.")
    template: str = Field(
        default="[{canary}]\n", description="What is put before the system prompt; {canary} stands for the word."
    )
    characters: int = Field(default=20, ge=12, le=64, description="Length of the random word.")
    part: int = Field(
        default=10, ge=8, le=64, description="So many characters of the word in a row count as the whole word."
    )
    overlap: float | None = Field(
        default=0.6,
        gt=0,
        le=1,
        description="The fraction of the system prompt's 8-grams from which an answer counts as repeating it; none: "
        "not looked at.",
    )
    least_prompt: int = Field(
        default=64, ge=GRAM, description="Letters and digits of a system prompt that overlap is judged of, at least."
    )

    def build(self, resources: Resources = NOTHING) -> CanaryGuard:
        return CanaryGuard(self)


@dataclass(frozen=True)
class Traces:
    """What gives a leak away: parts of the word in all their forms, and the prompts' grams."""

    forms: frozenset[str]
    prompts: tuple[frozenset[str], ...]
    screen: tuple[str, ...] = ()
    """One of these is in every text that one of the forms is in: blocks of half a part, in all their forms."""

    @classmethod
    def of(cls, canary: str, part: int, prompts: Sequence[str], least: int) -> Traces:
        """Any `part` characters of the word in a row, as they are, backwards, in hex, and in base64 wherever its groups
        begin; prompts with fewer than `least` letters and digits aren't looked at."""
        part, half = min(part, len(canary)), min(part, len(canary)) // 2
        forms = _forms_of([canary[at : at + part] for at in range(len(canary) - part + 1)] if canary else [])
        screen = _forms_of([canary[at : at + half] for at in range(0, len(canary) - half + 1, half)] if canary else [])
        letters = [_letters(prompt) for prompt in prompts]
        grams = tuple(frozenset(_grams(text)) for text in letters if len(text) >= least)
        return cls(frozenset(forms), grams, tuple(screen))

    @cached_property
    def beginnings(self) -> frozenset[str]:
        """What a form may begin with."""
        return frozenset(form[:size] for form in self.forms for size in range(1, len(form)))


@lru_cache(maxsize=64)
def _traces(canary: str, part: int, prompts: tuple[str, ...], least: int) -> Traces:
    return Traces.of(canary, part, prompts, least)


class CanaryGuard:
    """Streams: letters that a part of the word may begin with are held back; how much of the prompt an answer repeats
    is only known as it goes on, and stops it where it has become too much."""

    inline = True
    stages: frozenset[Stage] = frozenset({"input", "output"})

    def __init__(self, config: CanaryConfig) -> None:
        self.config, self.name = config, config.name

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        if stage == "input":
            return self._plant(exchange)
        # all texts as one, or a leak could be spread over the arguments of several calls
        watch = self.watch(exchange)
        return self.verdict(stage, any(watch.feed(text) for text in exchange.texts(stage)))

    def open(self, exchange: Exchange) -> OutputFilter:
        return _CanaryFilter(self, self.watch(exchange))

    def watch(self, exchange: Exchange) -> LeakWatch:
        canary, *prompts = exchange.state.get(self.name, ("",))
        traces = _traces(canary, self.config.part, tuple(prompts), self.config.least_prompt)
        return LeakWatch(traces, self.config.overlap or 1.0)

    def verdict(self, stage: Stage, leaks: bool) -> Verdict:
        if not leaks:
            return Verdict(self.name, stage, "allow")
        return Verdict(self.name, stage, self.config.action, "repeats the system prompt", 1.0)

    def _plant(self, exchange: Exchange) -> Verdict:
        """Remember what the system prompt is, and put the word before the first one."""
        texts, config = exchange.texts("input"), self.config
        systems = [n for n, message in enumerate(exchange.messages) if message.role in ("system", "developer")]
        canary = canary_token(config.characters) if systems and config.plant else ""
        prompts = [texts[number] for number in systems] if config.overlap is not None else []
        exchange.state[self.name] = (canary, *prompts)
        if not canary:
            return Verdict(self.name, "input", "allow")
        first, planted = systems[0], config.template.replace("{canary}", canary)
        new = (*texts[:first], planted + texts[first], *texts[first + 1 :])
        return Verdict(self.name, "input", "modify", "planted a canary", replacement=new)


class LeakWatch:
    """One text in chunks; characters before `safe` belong to no part of the word that is under way."""

    def __init__(self, traces: Traces, overlap: float) -> None:
        self.safe = 0
        self._traces, self._overlap = traces, overlap
        self._keep = max(map(len, traces.forms), default=1) - 1
        self.fed = 0
        self._tail, self._places = "", list[int]()
        """The last letters and digits of ASCII, in lower case, and where in the text they are."""
        self._gram_tail = ""
        self._seen: list[set[str]] = [set() for _ in traces.prompts]

    def feed(self, text: str) -> bool:
        """Whether more of the text makes a leak."""
        leaks = self._shows(text)
        if self._traces.prompts:
            leaks = self._repeats(text) or leaks
        return leaks

    def _shows(self, text: str) -> bool:
        if not self._traces.forms:
            self.fed += len(text)
            self.safe = self.fed
            return False
        new = _NO_LETTER.sub("", text).lower()
        letters = self._tail + new
        self._places = (self._places + _last_places(text, min(self._keep, len(new)), self.fed))[-self._keep :]
        self.fed += len(text)
        self._tail = letters[-self._keep :]
        self.safe = self.fed
        for start in range(len(self._tail)):
            if self._tail[start:] in self._traces.beginnings:
                self.safe = self._places[start]
                break
        if not any(block in letters for block in self._traces.screen):
            return False
        return any(form in letters for form in self._traces.forms)

    def _repeats(self, text: str) -> bool:
        letters = self._gram_tail + _letters(text)
        self._gram_tail = letters[-(GRAM - 1) :]
        grams, much = _grams(letters), False
        for seen, prompt in zip(self._seen, self._traces.prompts, strict=True):
            seen |= grams & prompt
            much = much or len(seen) >= self._overlap * len(prompt)
        return much


class _CanaryFilter:
    def __init__(self, guard: CanaryGuard, watch: LeakWatch) -> None:
        self._guard, self._watch, self._held = guard, watch, Held()

    def feed(self, text: str) -> Step:
        self._held.put(text)
        if self._watch.feed(text):
            return Step("", self._held.settled, self._guard.verdict("output", True))
        return Step(self._held.take(self._watch.safe), self._held.settled)

    def finish(self) -> Step:
        rest = self._held.take(self._watch.fed)
        return Step(rest, self._held.settled, self._guard.verdict("output", False))


def _letters(text: str) -> str:
    """The letters and digits of any script, in lower case: what a prompt's repetition is told by."""
    return "".join(filter(str.isalnum, text)).casefold()


def _grams(letters: str) -> set[str]:
    return {letters[at : at + GRAM] for at in range(len(letters) - GRAM + 1)}


def _last_places(text: str, count: int, offset: int) -> list[int]:
    """Where the last `count` letters and digits of ASCII are."""
    places, at = list[int](), len(text)
    while len(places) < count:
        at -= 1
        if text[at] in _ASCII:
            places.append(at + offset)
    return places[::-1]


def _forms_of(pieces: Sequence[str]) -> set[str]:
    """Parts of the word as they are, backwards, in hex, and in base64."""
    forms = set[str]()
    for piece in pieces:
        forms |= {piece, piece[::-1], piece.encode().hex()} | {_base64_of(piece, shift) for shift in range(3)}
    return forms


def _base64_of(piece: str, shift: int) -> str:
    """The characters of base64 that a piece alone decides where it begins `shift` bytes into a group of three."""
    encoded = base64.b64encode(b"\0" * shift + piece.encode() + b"\0\0").decode()
    first, last = -(-shift * 8 // 6), (shift + len(piece)) * 8 // 6
    return _NO_LETTER.sub("", encoded[first:last]).lower()
