"""The online loop on fakes: roles that answer what a test says, and no process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from raysafe.alignment.grpo import GRPOJob
from raysafe.alignment.online_data import Prompts
from raysafe.alignment.online_loop import OnlineLoop
from raysafe.alignment.roles import Written
from raysafe.runtime.run import Run

Answer = Callable[..., Any]


class Role:
    """A role's handle that writes down what it is asked, and answers at once."""

    ranks = 1

    def __init__(self, name: str, calls: list[tuple[Any, ...]], answers: dict[str, Answer]) -> None:
        self.name, self.calls, self.answers = name, calls, answers
        self.where: list[Any] = []

    def call(self, method: str, *args: Any, **more: Any) -> list[Any]:
        self.calls.append((self.name, method, *args))
        return [self.answers.get(method, lambda *_, **__: None)(*args, **more)]

    def start(self, method: str, *args: Any, **more: Any) -> SimpleNamespace:
        answers = self.call(method, *args, **more)
        return SimpleNamespace(result=lambda: answers)

    def start_spread(self, method: str, chunks: list[tuple[Any, ...]], **_: Any) -> SimpleNamespace:
        self.calls.append((self.name, method, len(chunks)))
        return SimpleNamespace(result=lambda: [self.answers[method](*chunk) for chunk in chunks])


class Loop:
    """An OnlineLoop of three prompts on fakes."""

    def __init__(self, folder: Path, answers: dict[str, Answer] | None = None, **fields: Any) -> None:
        base: dict[str, Any] = {"model": "preset:tiny", "data": "prompts.jsonl", "rewards": ("check:exact",)}
        settings = {"storage": str(folder), "steps": 4, "prompts_per_step": 3, "answers_per_prompt": 2, "max_tokens": 4}
        self.job = GRPOJob(**base | settings | fields)
        self.calls: list[tuple[Any, ...]] = []
        self.run = Run.create(self.job)
        self.rebuilt: list[frozenset[str]] = []
        everything: dict[str, Answer] = {
            "generate": written,
            "logps": lambda rows: np.full(sum(map(len, rows["answer_ids"].to_pylist())), -5.0),
            "score": lambda answers: {"reward": np.arange(len(answers.texts), dtype=float)},
            "update": lambda rows, parts, **_: {"loss": 0.0},
        } | (answers or {})
        supervisor: Any = SimpleNamespace(
            role=lambda name: Role(name, self.calls, everything), recover=lambda lost: self.rebuilt.pop(0)
        )
        prompts = Prompts([[{"role": "user", "content": str(i)}] for i in range(3)], [None] * 3, [[4, 5], [6], [7]])
        progress: Any = SimpleNamespace(say=lambda _: None, record=lambda *_: None, show=lambda *_: None)
        stop: Any = SimpleNamespace(wanted=False)
        self.loop = OnlineLoop(
            self.job, self.run, {"train": prompts, "validation": prompts}, supervisor, progress, stop
        )

    def asked(self, role: str, *methods: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == role and call[1] in methods]


def written(prompts: list[list[int]], sampling: Any, version: int, text: str = "ab") -> Written:
    count = len(prompts) * sampling.n
    tokens = np.tile(np.array([8, 9], dtype=np.int32), count)
    lengths = np.full(count, 2)
    return Written(tokens, lengths, np.full(2 * count, -5.0), [text] * count, np.ones(count, dtype=bool), version)
