"""Guards that do as a test tells them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from raysafe.guards.guard import Exchange, Guard, Message, Stage, Step, Verdict
from raysafe.guards.settings import NOTHING, GuardConfig, Resources, lower


class Telling:
    """Says `action` of every text, after calling `before`; it notes the texts that it saw."""

    def __init__(
        self,
        name: str,
        action: str = "allow",
        *,
        stages: tuple[Stage, ...] = ("input", "output"),
        inline: bool = True,
        before: Callable[[], Any] | None = None,
    ) -> None:
        self.name, self.inline, self._action, self._before = name, inline, action, before
        self.stages: frozenset[Stage] = frozenset(stages)
        self.saw: list[tuple[str, ...]] = []

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        texts = exchange.texts(stage)
        self.saw.append(texts)
        if self._before:
            self._before()
        if self._action == "modify":
            return Verdict(self.name, stage, "modify", replacement=tuple(f"<{text}>" for text in texts))
        return Verdict(self.name, stage, self._action, "as told", 1.0)  # type: ignore[arg-type]


class Streamed(Telling):
    """Judges as it streams: it stops at the first text that holds `word`, and lets all else go."""

    word = "stop"

    def open(self, exchange: Exchange) -> Streamed:
        return self

    def feed(self, text: str) -> Step:
        if self._before:
            self._before()
        if self.word in text:
            return Step("", 0, Verdict(self.name, "output", "block", "as told", 1.0))
        return Step(text, 0)

    def finish(self) -> Step:
        return Step("", 0, Verdict(self.name, "output", "allow"))


class Gate:
    """Holds threads until the test opens it."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self) -> None:
        self.entered.release()
        self._open.wait(20)

    def open(self) -> None:
        self._open.set()


class TellingConfig(GuardConfig):
    """`kind: telling` where a test has put it among the kinds."""

    tighter = {**GuardConfig.tighter, "limit": lower}  # noqa: RUF012 (GuardConfig says ClassVar)
    kind: Literal["telling"] = "telling"
    name: str = Field(default="telling", min_length=1)
    action: Literal["allow", "block", "modify"] = "allow"
    limit: int | None = None
    note: str = ""
    fails: bool = False

    def build(self, resources: Resources = NOTHING) -> Guard:
        if self.fails:
            raise RuntimeError("no model here")
        return Telling(self.name, self.action)


def asking(text: str = "hello", request_id: str = "r") -> Exchange:
    return Exchange(request_id, "k", "m", (Message("user", text),))


def fail() -> None:
    raise RuntimeError("it failed")
