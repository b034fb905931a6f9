"""Answers of one replica, whole and streamed, several at once: tokens a second and time to the first token.

    .venv/bin/python -m tests.bench.streams --model MODEL_FOLDER

The replica runs in this process, on one thread of torch, without a gateway or Ray. Prompts arrive `gap_s` apart;
`first_token_s` runs from a prompt's arrival to its first text (of a whole answer: to its end), `tokens_per_s` from the
first arrival to the last end; `…_cpu_s` counts this process's CPU time instead, which other work on the machine
changes less.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import torch
import tyro

from raysafe.guards.guard import Message
from raysafe.serving.backend import Completion, Piece, Prompt
from raysafe.serving.replicas import ModelReplica, ReplicaSettings

TOPICS = ["rivers", "bread", "the moon", "trains", "wool", "glass", "bees", "chess", "salt", "maps", "kites", "ink"]


def make_prompt(n: int, max_tokens: int) -> Prompt:
    topic = TOPICS[n % len(TOPICS)]
    words = f"Write a long and detailed story about {topic}, with many turns. " + "Take your time. " * (n % 4)
    return Prompt((Message("user", words),), max_tokens, temperature=1.0, seed=n)


class Watch(NamedTuple):
    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls) -> Watch:
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: Watch) -> Watch:
        return Watch(self.wall_s - start.wall_s, self.cpu_s - start.cpu_s)


async def whole(replica: ModelReplica, prompt: Prompt) -> tuple[Watch, int]:
    started = Watch.now()
    answer = await replica.complete(prompt)
    assert isinstance(answer, Completion), answer
    return Watch.now().since(started), answer.completion_tokens


async def streamed(replica: ModelReplica, prompt: Prompt) -> tuple[Watch, int]:
    started, first, count = Watch.now(), None, 0
    async for piece in replica.stream(prompt):
        assert isinstance(piece, Piece), piece
        first = first or Watch.now().since(started)
        count = piece.completion_tokens
    assert first is not None
    return first, count


async def measure(replica: ModelReplica, ask: Any, at_once: int, max_tokens: int, gap_s: float) -> dict[str, Any]:
    async def late(n: int) -> tuple[Watch, int]:
        await asyncio.sleep(n * gap_s)
        return await ask(replica, make_prompt(n, max_tokens))

    started = Watch.now()
    results = await asyncio.gather(*(late(n) for n in range(at_once)))
    took, tokens = Watch.now().since(started), sum(count for _, count in results)
    return {
        "first_token_s": round(median(first.wall_s for first, _ in results), 3),
        "slowest_first_token_s": round(max(first.wall_s for first, _ in results), 3),
        "first_token_cpu_s": round(median(first.cpu_s for first, _ in results), 3),
        "slowest_first_token_cpu_s": round(max(first.cpu_s for first, _ in results), 3),
        "tokens": tokens,
        "tokens_per_s": round(tokens / took.wall_s, 1),
        "tokens_per_cpu_s": round(tokens / took.cpu_s, 1),
    }


def main(
    *,
    model: str,
    at_once: tuple[int, ...] = (1, 4, 8),
    max_tokens: int = 48,
    gap_s: float = 0.05,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json", help="Write the figures to this file.")] = None,
) -> None:
    """Print the figures of each number of answers at once."""
    torch.set_num_threads(1)
    replica = ModelReplica(ReplicaSettings(folder=model, max_tokens=max_tokens))

    async def run() -> dict[str, Any]:
        await streamed(replica, make_prompt(0, 4))
        return {
            f"{count} {name}": await measure(replica, ask, count, max_tokens, gap_s)
            for count in at_once
            for name, ask in (("whole", whole), ("streamed", streamed))
        }

    figures = asyncio.run(run())
    print(json.dumps(figures, indent=2))
    if json_file is not None:
        json_file.write_text(json.dumps(figures))


if __name__ == "__main__":
    tyro.cli(main)
