"""EntityGuard: acts on the entities that a Finder finds; what the pii and secrets guards are."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from raysafe.guards.finding import Finder, Part, Stream
from raysafe.guards.guard import Action, Exchange, OutputFilter, Stage, Step, Verdict
from raysafe.guards.settings import GuardConfig, only

_STRING = re.compile(r'"(?>[^"\\]+|\\.)*+(?:"|\\?\Z)', re.DOTALL)


class EntityConfig(GuardConfig):
    """Settings of a guard that acts on entities."""

    tighter: ClassVar = {**GuardConfig.tighter, "output_action": only("block")}

    stages: frozenset[Literal["input", "output"]] = Field(default=frozenset({"input", "output"}), min_length=1)
    action: Literal["block", "hold", "modify"] = Field(
        default="modify", description="modify puts a mark in an entity's place, and lets the rest of the text pass."
    )
    output_action: Literal["block", "hold", "modify"] | None = Field(
        default=None, description="What is done to the model's text; the same as to requests where it is left out."
    )

    def action_at(self, stage: Stage) -> Literal["block", "hold", "modify"]:
        return self.action if stage == "input" or self.output_action is None else self.output_action


class Marks:
    """What stands in the place of the entities of one stage of one exchange, and what was found there."""

    def __init__(self, finder: Finder) -> None:
        self.finder = finder
        self.found: dict[str, int] = {}
        """Entities by kind, in the order in which their kinds were met."""
        self.restored = 0

    def put(self, part: Part) -> str:
        """What leaves in place of a part."""
        if part.kind is None:
            return part.text
        name = self.finder.shapes[part.kind].name
        self.found[name] = self.found.get(name, 0) + 1
        return self.mark(name, part.text)

    def mark(self, name: str, entity: str) -> str:
        return f"[{name}]"

    def rewrite(self, text: str) -> str:
        return "".join(map(self.put, self.finder.parts(text)))

    def rewrite_json(self, text: str) -> str:
        """JSON text with marks put in as JSON: escaped inside a string, as a string outside of one."""
        plain = _STRING.sub(_without_escapes, text) if "\\" in text else text
        parts = self.finder.parts(plain)
        if all(part.kind is None for part in parts):
            return text
        strings = _STRING.finditer(plain)
        out, at, string = list[str](), 0, next(strings, None)
        for part in parts:
            while string is not None and string.end() <= at:
                string = next(strings, None)
            put = self.put(part)
            if part.kind is not None:
                inside = string is not None and string.start() < at
                put = json.dumps(put, ensure_ascii=False)
                put = put[1:-1] if inside else put
            out.append(put)
            at += len(part.text)
        return "".join(out)

    @property
    def told(self) -> str:
        """What was found, for a verdict's reason: kinds and counts, no text."""
        return ", ".join(f"{name} x{count}" for name, count in self.found.items())


class EntityGuard:
    """A subclass says what the marks are. Entities are looked for in each text by itself."""

    inline = True

    def __init__(self, config: EntityConfig, finder: Finder) -> None:
        self.config, self.name, self.finder = config, config.name, finder
        self.stages: frozenset[Stage] = frozenset(config.stages)

    def marks(self, exchange: Exchange, stage: Stage, texts: Sequence[str]) -> Marks:
        """The marks for a stage; `texts` are its whole texts, or none where they stream."""
        return Marks(self.finder)

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        texts = exchange.texts(stage)
        marks, plain = self.marks(exchange, stage, texts), exchange.plain(stage)
        new = list[str]()
        for number, text in enumerate(texts):
            new.append(marks.rewrite(text) if number < plain else marks.rewrite_json(text))
            if marks.found and self.config.action_at(stage) != "modify":
                return self.against(stage, marks)
        if tuple(new) == texts:
            return self.allowed(stage)
        return self.modified(stage, marks, tuple(new))

    def open(self, exchange: Exchange) -> OutputFilter:
        return _EntityFilter(self, self.marks(exchange, "output", ()))

    def allowed(self, stage: Stage) -> Verdict:
        return Verdict(self.name, stage, "allow")

    def against(self, stage: Stage, marks: Marks) -> Verdict:
        """The verdict that stops a text; it names the first kind only, for that is all that a stream has seen."""
        action: Action = self.config.action_at(stage)
        return Verdict(self.name, stage, action, f"holds {next(iter(marks.found))}", 1.0)

    def modified(self, stage: Stage, marks: Marks, texts: tuple[str, ...]) -> Verdict:
        said = [f"replaced {marks.told}"] if marks.found else []
        said += [f"restored {marks.restored}"] if marks.restored else []
        score = 1.0 if marks.found else 0.0
        return Verdict(self.name, stage, "modify", "; ".join(said), score, replacement=texts)


class _EntityFilter:
    """One streamed answer with marks in place of its entities, or up to the first of them."""

    def __init__(self, guard: EntityGuard, marks: Marks) -> None:
        self._guard, self._marks = guard, marks
        self._stream = Stream(marks.finder)
        self._stops = guard.config.action_at("output") != "modify"
        self._passed: list[str] = []

    def feed(self, text: str) -> Step:
        return self._step(self._stream.feed(text))

    def finish(self) -> Step:
        step = self._step(self._stream.feed("", ended=True))
        if step.verdict is not None:
            return step
        guard, marks = self._guard, self._marks
        if marks.found or marks.restored:
            verdict = guard.modified("output", marks, ("".join(self._passed),))
        else:
            verdict = guard.allowed("output")
        return Step(step.text, step.settled, verdict)

    def _step(self, parts: list[Part]) -> Step:
        before, out = self._stream.settled - sum(len(part.text) for part in parts), list[str]()
        for part in parts:
            out.append(self._marks.put(part))
            if self._stops and self._marks.found:
                return Step("", before, self._guard.against("output", self._marks))
        text = "".join(out)
        self._passed.append(text)
        return Step(text, self._stream.settled)


def _without_escapes(match: re.Match[str]) -> str:
    """A JSON string with only the escapes that JSON demands, so that an entity in it can be seen."""
    try:
        return json.dumps(json.loads(match[0], strict=False), ensure_ascii=False)
    except ValueError:
        return match[0]
