"""Length limits, and rate limits by token bucket per key: requests a minute, characters in and out a minute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from raysafe.guards.guard import Exchange, Stage, Step, Verdict
from raysafe.guards.settings import NOTHING, GuardConfig, Resources, lower


class LengthConfig(GuardConfig):
    """`kind: length` of a policy; a limit that is left out doesn't apply."""

    kind: Literal["length"] = "length"
    name: str = Field(default="length", min_length=1)
    messages: int | None = Field(default=None, gt=0, description="Messages in a request.")
    input_characters: int | None = Field(default=None, gt=0, description="Characters of all messages together.")
    output_characters: int | None = Field(default=None, gt=0, description="Characters of an answer.")
    tokens: int | None = Field(default=None, gt=0, description="Tokens that a request may ask for.")
    tighter: ClassVar = {
        **GuardConfig.tighter,
        **dict.fromkeys(("messages", "input_characters", "output_characters", "tokens"), lower),
    }

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if not any((self.messages, self.input_characters, self.output_characters, self.tokens)):
            raise ValueError("a length guard needs one of messages, input_characters, output_characters or tokens")
        return self

    def build(self, resources: Resources = NOTHING) -> LengthGuard:
        return LengthGuard(self)


class LengthGuard:
    """Blocks what is too long. A streamed answer ends where it passes the limit."""

    inline = True

    def __init__(self, config: LengthConfig) -> None:
        self.config = config
        self.name = config.name
        self.stages: frozenset[Stage] = frozenset({"input", "output"})

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        config, characters = self.config, sum(map(len, exchange.texts(stage)))
        if stage != "input":
            return self.judge(stage, ("characters in the answer", characters, config.output_characters))
        return self.judge(
            stage,
            ("messages", len(exchange.messages), config.messages),
            ("characters", characters, config.input_characters),
            ("tokens asked for", exchange.max_tokens or 0, config.tokens),
        )

    def judge(self, stage: Stage, *counts: tuple[str, int, int | None]) -> Verdict:
        for what, count, limit in counts:
            if limit is not None and count > limit:
                return Verdict(
                    self.name, stage, "block", f"{count:,} {what}, over the limit of {limit:,}", 1.0, "length"
                )
        return Verdict(self.name, stage, "allow")

    def open(self, exchange: Exchange) -> _LengthFilter:
        return _LengthFilter(self)


class _LengthFilter:
    def __init__(self, guard: LengthGuard) -> None:
        self._guard, self._count = guard, 0

    def feed(self, text: str) -> Step:
        self._count += len(text)
        verdict = self._verdict()
        return Step("", 0, verdict) if verdict.stops else Step(text, self._count)

    def finish(self) -> Step:
        return Step("", self._count, self._verdict())

    def _verdict(self) -> Verdict:
        # while it streams, only that the limit is passed is known, not by how much
        limit = self._guard.config.output_characters
        count = min(self._count, limit + 1) if limit else self._count
        return self._guard.judge("output", ("characters in the answer", count, limit))


class RateConfig(GuardConfig):
    """`kind: rate` of a policy: what each API key may use, at this gateway replica."""

    kind: Literal["rate"] = "rate"
    name: str = Field(default="rate", min_length=1)
    requests_per_minute: float | None = Field(default=None, gt=0)
    characters_per_minute: float | None = Field(
        default=None, gt=0, description="Characters of requests and answers together."
    )
    burst_s: float = Field(default=60.0, gt=0, description="Seconds of unused rate that a key may save up.")
    tighter: ClassVar = {
        **GuardConfig.tighter,
        **dict.fromkeys(("requests_per_minute", "characters_per_minute", "burst_s"), lower),
    }

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if not (self.requests_per_minute or self.characters_per_minute):
            raise ValueError("a rate guard needs requests_per_minute or characters_per_minute")
        return self

    def build(self, resources: Resources = NOTHING) -> RateGuard:
        return RateGuard(self)


@dataclass(slots=True)
class Bucket:
    """A token bucket: `level` units are left at time `at`; it refills at `per_s` up to `capacity`; debt is possible."""

    per_s: float
    capacity: float
    level: float
    at: float

    def refill(self, now: float) -> None:
        self.level = min(self.capacity, self.level + (now - self.at) * self.per_s)
        self.at = now

    def wait_s(self, amount: float) -> float:
        """Seconds until `amount` is there; an amount over the capacity waits for a full bucket, and leaves a debt."""
        return max(0.0, (min(amount, self.capacity) - self.level) / self.per_s)


class RateGuard:
    """Refuses a request that a key's bucket doesn't cover.

    Answers are charged as they come and never cut: they may leave a debt that the key's next request waits for.
    """

    inline = True

    def __init__(self, config: RateConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self.name = config.name
        self.stages: frozenset[Stage] = frozenset({"input", "output"})
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._lock = threading.Lock()

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        characters = sum(map(len, exchange.texts(stage)))
        if stage != "input":
            self.charge(exchange.key_id, characters)
            return Verdict(self.name, stage, "allow")
        with self._lock:
            return self._admit(exchange.key_id, characters)

    def _admit(self, key_id: str, characters: int) -> Verdict:
        stage: Stage = "input"
        uses = [(self._bucket(key_id, kind), kind, amount) for kind, amount in self._amounts(1, characters)]
        wait_s, kind = max(((bucket.wait_s(amount), kind) for bucket, kind, amount in uses), default=(0.0, ""))
        if wait_s > 0:
            reason = f"over the limit of {kind} a minute for this key; try again in {wait_s:.1f} s"
            return Verdict(self.name, stage, "block", reason, 1.0, "rate", retry_after_s=wait_s)
        for bucket, _, amount in uses:
            bucket.level -= amount
        return Verdict(self.name, stage, "allow")

    def open(self, exchange: Exchange) -> _RateFilter:
        return _RateFilter(self, exchange.key_id)

    def charge(self, key_id: str, characters: int) -> None:
        with self._lock:
            for kind, amount in self._amounts(0, characters):
                self._bucket(key_id, kind).level -= amount

    def _amounts(self, requests: int, characters: int) -> list[tuple[str, float]]:
        amounts: list[tuple[str, float]] = []
        if self.config.requests_per_minute:
            amounts.append(("requests", requests))
        if self.config.characters_per_minute:
            amounts.append(("characters", characters))
        return amounts

    def _bucket(self, key_id: str, kind: str) -> Bucket:
        now = self._clock()
        bucket = self._buckets.get((key_id, kind))
        if bucket is None:
            per_minute = self.config.requests_per_minute if kind == "requests" else self.config.characters_per_minute
            per_s = (per_minute or 0.0) / 60
            capacity = max(1.0, per_s * self.config.burst_s)
            bucket = self._buckets[key_id, kind] = Bucket(per_s, capacity, capacity, now)
        bucket.refill(now)
        return bucket


class _RateFilter:
    def __init__(self, guard: RateGuard, key_id: str) -> None:
        self._guard, self._key_id, self._count = guard, key_id, 0

    def feed(self, text: str) -> Step:
        self._count += len(text)
        self._guard.charge(self._key_id, len(text))
        return Step(text, self._count)

    def finish(self) -> Step:
        return Step("", self._count, Verdict(self._guard.name, "output", "allow"))
