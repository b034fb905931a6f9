"""PatternGuard: phrases that are blocked, held or cut out, however they are disguised; phrases.py has their language.

It catches wording, not meaning: cheap, exact and explainable, and no substitute for a guard that understands a request.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from raysafe.config import Config
from raysafe.guards.guard import Exchange, Stage, Step, Verdict
from raysafe.guards.matcher import Hit, Matcher, Scan
from raysafe.guards.phrases import PhraseError, compile_rules

_MAX_PHRASE_LENGTH = 100_000


class Rule(Config):
    """A named list of phrases; `<term>` in a phrase stands for the phrases of that name in the guard's `terms`."""

    name: str = Field(min_length=1, description="Shown in the verdict's reason and in the audit log.")
    phrases: tuple[str, ...] = Field(min_length=1, description="Phrases in the language of raysafe.guards.phrases.")


class PatternsConfig(Config):
    """`kind: patterns` of a policy."""

    kind: Literal["patterns"] = "patterns"
    name: str = Field(default="patterns", min_length=1)
    stages: frozenset[Literal["input", "output"]] = Field(default=frozenset({"input", "output"}), min_length=1)
    action: Literal["block", "hold", "modify"] = Field(default="block", description="modify cuts the phrase out.")
    replacement: str = Field(
        default="[removed]", description="What stands in a cut-out phrase's place (action: modify)."
    )
    terms: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Named alternatives for <name> in phrases."
    )
    rules: tuple[Rule, ...] = Field(min_length=1)
    timeout_s: float = Field(default=5.0, gt=0, description="A check that takes longer counts as failed.")
    on_error: Literal["closed", "open"] = Field(default="closed", description="open lets text past a failed guard.")

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "config") -> Self:
        rules = values.get("rules")
        for number, rule in enumerate(rules if isinstance(rules, list) else ()):
            if isinstance(rule, dict):
                Rule.parse(rule, f"{source}, rules[{number}]")
        return super().parse(values, source)

    @field_validator("terms")
    @classmethod
    def _terms_hold_phrases(cls, terms: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if empty := [name for name, phrases in terms.items() if not phrases]:
            raise ValueError(f"term '{empty[0]}' holds no phrase")
        return terms

    @model_validator(mode="after")
    def _phrases_compile(self) -> Self:
        try:
            compile_rules(tuple(tuple(phrases) for phrases in self.expanded()))
        except PhraseError as error:
            raise ValueError(f"rule '{self.rules[error.rule].name}': {error}") from None
        return self

    def expanded(self) -> list[list[str]]:
        """Each rule's phrases with their terms filled in; terms may use terms."""
        filled = {f"<{name}>": f"({'|'.join(phrases)})" for name, phrases in self.terms.items()}

        def fill(phrase: str) -> str:
            for _ in self.terms:
                for mark, alternatives in filled.items():
                    phrase = phrase.replace(mark, alternatives)
                if len(phrase) > _MAX_PHRASE_LENGTH:
                    raise ValueError(
                        f"a phrase grows past {_MAX_PHRASE_LENGTH:,} characters; do its terms use each other?"
                    )
            if unknown := re.search(r"<[^>]*>?", phrase):
                known = ", ".join(self.terms) or "none are given"
                raise ValueError(f"{unknown[0]!r} in a phrase is no term; terms: {known}")
            return phrase

        return [[fill(phrase) for phrase in rule.phrases] for rule in self.rules]

    def build(self) -> PatternGuard:
        return PatternGuard(self)


class PatternGuard:
    """Finds forbidden phrases in one linear pass; streams with a hold-back of the phrase under way."""

    inline = True

    def __init__(self, config: PatternsConfig) -> None:
        self.config = config
        self.name = config.name
        self.stages: frozenset[Stage] = frozenset(config.stages)
        self.matcher = Matcher(config.expanded())

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        """All of the stage's texts as one, so that a phrase spread over two messages is found."""
        texts = exchange.texts(stage)
        scan = Scan(self.matcher)
        hits = [*scan.feed("\n".join(texts)), *scan.finish()]
        if not hits:
            return Verdict(self.name, stage, "allow")
        if self.config.action == "modify":
            return self.verdict(hits, stage, cut_out(texts, hits, self.config.replacement))
        return self.verdict(hits[:1], stage)

    def open(self, exchange: Exchange) -> PatternFilter:
        return PatternFilter(self)

    def verdict(self, hits: list[Hit], stage: Stage, replacement: tuple[str, ...] | None = None) -> Verdict:
        rules = ", ".join(dict.fromkeys(f"'{self.config.rules[hit.rule].name}'" for hit in hits))
        return Verdict(self.name, stage, self.config.action, f"matches {rules}", 1.0, replacement=replacement)


class PatternFilter:
    """One streamed answer: lets go of what no phrase under way may still claim."""

    def __init__(self, guard: PatternGuard) -> None:
        self._guard = guard
        self._scan = Scan(guard.matcher)
        self._held = ""
        self._settled = 0
        self._passed: list[str] = []
        self._hits: list[Hit] = []

    def feed(self, text: str) -> Step:
        return self._step(text, self._scan.feed(text))

    def finish(self) -> Step:
        step = self._step("", self._scan.finish())
        if step.verdict is not None:
            return step
        if self._hits:
            replacement = ("".join(self._passed),)
            return Step(step.text, step.settled, self._guard.verdict(self._hits, "output", replacement))
        return Step(step.text, step.settled, Verdict(self._guard.name, "output", "allow"))

    def _step(self, text: str, hits: list[Hit]) -> Step:
        if hits and self._guard.config.action != "modify":
            return Step("", self._settled, self._guard.verdict(hits[:1], "output"))
        self._held += text
        self._hits += hits
        parts: list[str] = []
        for hit in hits:
            parts += [self._take(hit.start), self._guard.config.replacement]
            self._take(hit.end)
        parts.append(self._take(self._scan.safe))
        self._passed += parts
        return Step("".join(parts), self._settled)

    def _take(self, to: int) -> str:
        """The held text up to character `to` of the answer; it is held no longer."""
        count = max(to - self._settled, 0)
        taken, self._held = self._held[:count], self._held[count:]
        self._settled += count
        return taken


def cut_out(texts: tuple[str, ...], hits: list[Hit], replacement: str) -> tuple[str, ...]:
    """The texts, joined by one character, with each hit replaced where it begins and cut from the texts after."""
    starts = [0]
    for text in texts:
        starts.append(starts[-1] + len(text) + 1)
    parts: list[list[str]] = [[] for _ in texts]
    done = [0] * len(texts)
    for hit in hits:
        first = bisect_right(starts, hit.start) - 1
        last = bisect_right(starts, max(hit.end - 1, hit.start)) - 1
        for index in range(first, last + 1):
            begin, end = max(hit.start - starts[index], 0), min(hit.end - starts[index], len(texts[index]))
            parts[index] += [texts[index][done[index] : begin], replacement if index == first else ""]
            done[index] = max(end, done[index])
    return tuple("".join([*parts[i], text[done[i] :]]) for i, text in enumerate(texts))
