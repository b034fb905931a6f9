"""PatternGuard: phrases that are blocked, held or cut out, however they are disguised; phrases.py has their language.

It catches wording, not meaning: cheap, exact and explainable, and no substitute for a guard that understands a request.
What a text says in base64 and other encodings is read too (views.py); `modify` cuts an encoded run out whole.
"""

from __future__ import annotations

import re
from typing import Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from raysafe.config import Config
from raysafe.guards.cutting import Cutter, Held, cut_out
from raysafe.guards.guard import Action, Exchange, OutputFilter, Stage, Step, Verdict
from raysafe.guards.matcher import Matcher
from raysafe.guards.phrases import PhraseError, Turn, compile_rules
from raysafe.guards.settings import NOTHING, GuardConfig, Resources
from raysafe.guards.unicode import IGNORED, SEPARATORS, fold
from raysafe.guards.views import FirstLook, FullLook, first_in

_MAX_PHRASE_LENGTH = 100_000
Disguise = Literal["base64", "base32", "hex", "binary", "decimal", "morse", "escapes", "rot13", "reversed"]
_TURNS: tuple[Turn, ...] = ("rot13", "reversed")


class Rule(Config):
    """A named list of phrases; `<term>` in a phrase stands for the phrases of that name in the guard's `terms`."""

    name: str = Field(min_length=1, description="Shown in the verdict's reason and in the audit log.")
    phrases: tuple[str, ...] = Field(min_length=1, description="Phrases in the language of raysafe.guards.phrases.")


class PatternsConfig(GuardConfig):
    """`kind: patterns` of a policy."""

    kind: Literal["patterns"] = "patterns"
    name: str = Field(default="patterns", min_length=1)
    stages: frozenset[Literal["input", "output"]] = Field(default=frozenset({"input", "output"}), min_length=1)
    action: Literal["block", "hold", "modify"] = Field(
        default="block",
        description="modify cuts the phrases out, and blocks a text that would hold one again once they are cut.",
    )
    replacement: str = Field(
        default="[removed]",
        description="What stands in a cut-out phrase's place (action: modify): with a letter or digit, or the words "
        "around it would come together, and no phrase itself.",
    )
    decode: frozenset[Disguise] = Field(
        default=frozenset(get_args(Disguise)),
        description="What is seen through besides look-alikes and split words, up to three inside each other: runs of "
        "base64, base32, hex, binary, decimal and Morse code; escapes such as %62, &#98; and \\u0062; and phrases in "
        "rot13 and backwards. [] for none. A run of code under way is held back from a stream until it is judged: at "
        "most two windows of 1,024 characters.",
    )
    terms: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Named alternatives for <name> in phrases."
    )
    rules: tuple[Rule, ...] = Field(min_length=1)

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
            compile_rules(tuple(tuple(phrases) for phrases in self.expanded()), self.turned)
        except PhraseError as error:
            raise ValueError(f"rule '{self.rules[error.rule].name}': {error}") from None
        return self

    @model_validator(mode="after")
    def _replacement_interrupts_and_is_no_phrase(self) -> Self:
        if self.action != "modify":
            return self
        symbols = "".join(fold(character) for character in self.replacement)
        if all(symbol in SEPARATORS or symbol == IGNORED for symbol in symbols):
            raise ValueError(
                f"replacement must hold a letter or a digit, such as '[removed]', got {self.replacement!r}"
            )
        rule = first_in(self.matcher(), self.replacement, self.decode)
        if rule is not None:
            raise ValueError(f"replacement {self.replacement!r} matches rule '{self.rules[rule].name}' itself")
        return self

    @property
    def turned(self) -> frozenset[Turn]:
        return frozenset(turn for turn in _TURNS if turn in self.decode)

    def matcher(self) -> Matcher:
        return Matcher(self.expanded(), self.turned)

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

    def build(self, resources: Resources = NOTHING) -> PatternGuard:
        return PatternGuard(self)


class PatternGuard:
    """Finds forbidden phrases in one linear pass; streams with a hold-back of the phrase under way."""

    inline = True

    def __init__(self, config: PatternsConfig) -> None:
        self.config = config
        self.name = config.name
        self.stages: frozenset[Stage] = frozenset(config.stages)
        self.matcher = config.matcher()

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        """All of the stage's texts as one, so that a phrase spread over two messages is found."""
        texts = exchange.texts(stage)
        if self.config.action != "modify":
            rule = self.first("\n".join(texts))
            return self.allowed(stage) if rule is None else self.found(stage, {rule})
        scan = FullLook(self.matcher, self.config.decode)
        hits = [*scan.feed("\n".join(texts)), *scan.finish()]
        if not hits:
            return self.allowed(stage)
        texts = cut_out(texts, hits, self.config.replacement)
        formed = self.first("\n".join(texts))
        return self.found(stage, {hit.rule for hit in hits}, texts) if formed is None else self.formed(stage, formed)

    def first(self, text: str) -> int | None:
        """The rule of the phrase in a whole text that can be told first."""
        return first_in(self.matcher, text, self.config.decode)

    def open(self, exchange: Exchange) -> OutputFilter:
        return _CuttingFilter(self) if self.config.action == "modify" else _StoppingFilter(self)

    def allowed(self, stage: Stage) -> Verdict:
        return Verdict(self.name, stage, "allow")

    def found(self, stage: Stage, rules: set[int], replacement: tuple[str, ...] | None = None) -> Verdict:
        """The verdict on a text with phrases of these rules."""
        names = ", ".join(f"'{self.config.rules[rule].name}'" for rule in sorted(rules))
        return self._against(stage, self.config.action, f"matches {names}", replacement)

    def formed(self, stage: Stage, rule: int) -> Verdict:
        """The verdict on a text that holds a phrase once others are cut out of it."""
        name = self.config.rules[rule].name
        return self._against(stage, "block", f"matches '{name}' once other phrases are cut out")

    def _against(
        self, stage: Stage, action: Action, reason: str, replacement: tuple[str, ...] | None = None
    ) -> Verdict:
        return Verdict(self.name, stage, action, reason, 1.0, replacement=replacement)


class _StoppingFilter:
    """One streamed answer up to the first phrase: lets go of what no phrase under way may still claim."""

    def __init__(self, guard: PatternGuard) -> None:
        self._guard = guard
        self._watch = FirstLook(guard.matcher, guard.config.decode)
        self._held = Held()

    def feed(self, text: str) -> Step:
        self._held.put(text)
        return self._step(self._watch.feed(text), None)

    def finish(self) -> Step:
        return self._step(self._watch.finish(), self._guard.allowed("output"))

    def _step(self, rule: int | None, verdict: Verdict | None) -> Step:
        if rule is not None:
            return Step("", self._held.settled, self._guard.found("output", {rule}))
        return Step(self._held.take(self._watch.safe), self._held.settled, verdict)


class _CuttingFilter:
    """One streamed answer without its phrases."""

    def __init__(self, guard: PatternGuard) -> None:
        self._guard = guard
        self._cutter = Cutter(guard.matcher, guard.config.replacement, guard.config.decode)
        self._passed: list[str] = []

    def feed(self, text: str) -> Step:
        return self._step(self._cutter.feed(text))

    def finish(self) -> Step:
        step = self._step(self._cutter.finish())
        if step.verdict is not None:
            return step
        rules, guard = self._cutter.rules, self._guard
        verdict = guard.found("output", rules, ("".join(self._passed),)) if rules else guard.allowed("output")
        return Step(step.text, step.settled, verdict)

    def _step(self, text: str) -> Step:
        if self._cutter.formed is not None:
            return Step("", self._cutter.settled, self._guard.formed("output", self._cutter.formed))
        self._passed.append(text)
        return Step(text, self._cutter.settled)
