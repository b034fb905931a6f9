"""What may be talked about: topics as lists of phrases, of which several must be met before a text counts as on one.

- kind: topics
  deny: [medicine]
  topics:
    - name: medicine
      least: 2
      phrases: [diagnos*, prescription*, "(tablet*|pill*) a day", side effect*]

- kind: topics
  name: bank-only
  stages: [input]
  allow: [banking]        # a request of some length that is on none of these is stopped
  topics:
    - name: banking
      phrases: [account*, transfer*, loan*, (debit|credit) card*]

A phrase counts however it is disguised (raysafe.guards.phrases). It is words that are counted, not meaning.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.guards.cutting import Held
from raysafe.guards.guard import Exchange, OutputFilter, Stage, Step, Verdict
from raysafe.guards.matcher import Hit, Matcher, Scan
from raysafe.guards.phrases import PhraseError
from raysafe.guards.settings import NOTHING, GuardConfig, Resources


class Topic(Config):
    """A named list of phrases."""

    name: str = Field(min_length=1, description="Shown in the verdict's reason and in the audit log.")
    phrases: tuple[str, ...] = Field(min_length=1, description="Phrases in the language of raysafe.guards.phrases.")
    least: int = Field(default=1, ge=1, description="Phrases of it, one after the other, from which a text is on it.")


class TopicsConfig(GuardConfig):
    """`kind: topics` of a policy."""

    kind: Literal["topics"] = "topics"
    name: str = Field(default="topics", min_length=1)
    stages: frozenset[Literal["input", "output"]] = Field(default=frozenset({"input", "output"}), min_length=1)
    action: Literal["block", "hold"] = Field(default="block", description="What is done to a text off the topics.")
    topics: tuple[Topic, ...] = Field(min_length=1)
    deny: tuple[str, ...] = Field(default=(), description="Names of topics that no text may be on.")
    allow: tuple[str, ...] = Field(
        default=(),
        description="Names of topics of which a text must be on one; none: any text may be on anything else.",
    )
    free_words: int = Field(
        default=8, ge=0, description="A text of at most so many words (a greeting, a yes) need be on no allowed topic."
    )
    roles: tuple[str, ...] = Field(
        default=("user",), min_length=1, description="Roles of the messages that are judged at the input, the last one."
    )

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        names = [topic.name for topic in self.topics]
        if len(set(names)) < len(names):
            raise ValueError("two topics have one name; give each a name of its own")
        for name in (*self.deny, *self.allow):
            if name not in names:
                raise ValueError(f"'{name}' is no topic of this guard; topics: {', '.join(names)}")
        if not (self.deny or self.allow):
            raise ValueError("a topics guard needs one of deny or allow")
        if both := set(self.deny) & set(self.allow):
            raise ValueError(f"topic '{min(both)}' is both allowed and denied; choose one")
        return self

    @model_validator(mode="after")
    def _phrases_compile(self) -> Self:
        try:
            self.matcher()
        except PhraseError as error:
            raise ValueError(f"topic '{self.topics[error.rule].name}': {error}") from None
        return self

    def matcher(self) -> Matcher:
        return Matcher([topic.phrases for topic in self.topics])

    def build(self, resources: Resources = NOTHING) -> TopicsGuard:
        return TopicsGuard(self)


class TopicsGuard:
    """Streams where topics are denied only; what must be on an allowed topic is judged at its end."""

    inline = True

    def __init__(self, config: TopicsConfig) -> None:
        self.config, self.name = config, config.name
        self.stages: frozenset[Stage] = frozenset(config.stages)
        self.matcher = config.matcher()

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        for text in self._judged(exchange, stage):
            count = TopicCount(self)
            count.feed(text)
            count.finish()
            # arguments of a tool call are no talk that could be on a topic
            fault = count.denied or (None if stage == "tool_call" else count.off_topic(text))
            if fault is not None:
                return self.against(stage, fault)
        return self.allowed(stage)

    def open(self, exchange: Exchange) -> OutputFilter:
        return _TopicFilter(self)

    def allowed(self, stage: Stage) -> Verdict:
        return Verdict(self.name, stage, "allow")

    def against(self, stage: Stage, fault: str) -> Verdict:
        return Verdict(self.name, stage, self.config.action, fault, 1.0)

    def _judged(self, exchange: Exchange, stage: Stage) -> tuple[str, ...]:
        """At the input the last message of the roles: earlier ones have been judged when they were the last."""
        texts = exchange.texts(stage)
        if stage != "input":
            return texts
        mine = [
            text for message, text in zip(exchange.messages, texts, strict=False) if message.role in self.config.roles
        ]
        return tuple(mine[-1:])


class TopicCount:
    """Phrases of each topic in a text that comes in chunks; phrases that overlap count once."""

    def __init__(self, guard: TopicsGuard) -> None:
        self.denied: str | None = None
        """The reason, once a denied topic has been reached."""
        self._config, self._scan = guard.config, Scan(guard.matcher)
        self._counts = [0] * len(guard.config.topics)
        self._ends = [-1] * len(guard.config.topics)

    @property
    def safe(self) -> int:
        return self._scan.safe

    def feed(self, text: str) -> None:
        self._count(self._scan.feed(text))

    def finish(self) -> None:
        self._count(self._scan.finish())

    def off_topic(self, text: str) -> str | None:
        """The reason where a whole text is on none of the allowed topics."""
        config = self._config
        if not config.allow or len(text.split(None, config.free_words)) <= config.free_words:
            return None
        on = {topic.name for topic, count in zip(config.topics, self._counts, strict=True) if count >= topic.least}
        return None if on & set(config.allow) else "is on none of the allowed topics"

    def _count(self, hits: list[Hit]) -> None:
        for hit in hits:
            if hit.start < self._ends[hit.rule]:
                continue
            self._ends[hit.rule] = hit.end
            self._counts[hit.rule] += 1
            topic = self._config.topics[hit.rule]
            if self.denied is None and self._counts[hit.rule] >= topic.least and topic.name in self._config.deny:
                self.denied = f"is on the denied topic '{topic.name}'"


class _TopicFilter:
    """One streamed answer up to the phrase that puts it on a denied topic."""

    def __init__(self, guard: TopicsGuard) -> None:
        self._guard, self._count, self._held = guard, TopicCount(guard), Held()
        self._text: list[str] = []

    def feed(self, text: str) -> Step:
        self._held.put(text)
        self._count.feed(text)
        if self._count.denied:
            return Step("", self._held.settled, self._guard.against("output", self._count.denied))
        if self._guard.config.allow:
            self._text.append(text)
            return Step("", 0)
        return Step(self._held.take(self._count.safe), self._held.settled)

    def finish(self) -> Step:
        self._count.finish()
        fault = self._count.denied or self._count.off_topic("".join(self._text))
        if fault:
            return Step("", self._held.settled, self._guard.against("output", fault))
        return Step(self._held.take(self._count.safe), self._held.settled, self._guard.allowed("output"))
