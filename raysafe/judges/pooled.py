"""A local judge on several Ray actors, for large batches: a call loads the model on each and shares out the prompts.

For a judge that is asked again and again, keep a LocalJudge in a long-lived actor instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from raysafe.data.conversation import MESSAGES
from raysafe.judges.judge import Capabilities, Messages, check_choices
from raysafe.judges.local import LocalJudge
from raysafe.runtime.cluster import Needs
from raysafe.runtime.pool import TableFunction, parallel_map

MakeJudge = Callable[[], LocalJudge]


class PooledJudge:
    """`make` (picklable) builds the judge on each actor; `needs` says how many and what each takes."""

    def __init__(self, make: MakeJudge, needs: Needs, *, name: str, address: str | None = None) -> None:
        self.name, self._make, self._needs, self._address = name, make, needs, address
        self.capabilities = Capabilities(
            choice_logprobs=True, deterministic=True, concurrent=needs.workers, batch=4096 * needs.workers
        )

    async def generate(
        self, prompts: Sequence[Messages], *, max_tokens: int = 16, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """One answer a prompt, in order. Equal prompts are drawn alike at a temperature above 0 on different actors."""
        make = partial(_generator, self._make, max_tokens, temperature, seed)
        answers = await self._map(make, prompts)
        return answers["answer"].to_pylist() if answers is not None else []

    async def choice_logprobs(self, prompts: Sequence[Messages], choices: Sequence[str]) -> np.ndarray:
        """log p(choice | prompt), (N, K), normalised over the choices."""
        check_choices(choices)
        logps = await self._map(partial(_weigher, self._make, tuple(choices)), prompts)
        return np.array(logps["logps"].to_pylist() if logps is not None else []).reshape(len(prompts), len(choices))

    async def _map(self, make: Callable[[], TableFunction], prompts: Sequence[Messages]) -> pa.Table | None:
        if not prompts:
            return None
        table = pa.table({"prompt": pa.array([[dict(m) for m in prompt] for prompt in prompts], MESSAGES)})
        # the chunks' size is a matter of rows alone, so the same prompts meet in the same batches whatever the workers
        return await asyncio.to_thread(
            parallel_map, make, table, needs=self._needs, description=f"judge {self.name}", address=self._address
        )


def _generator(make: MakeJudge, max_tokens: int, temperature: float, seed: int) -> TableFunction:
    judge = make()

    def work(table: pa.Table) -> pa.Table:
        return pa.table({"answer": judge.generate_now(table["prompt"].to_pylist(), max_tokens, temperature, seed)})

    return work


def _weigher(make: MakeJudge, choices: tuple[str, ...]) -> TableFunction:
    judge = make()

    def work(table: pa.Table) -> pa.Table:
        logps_NK = judge.choice_logprobs_now(table["prompt"].to_pylist(), choices)
        return pa.table({"logps": pa.array(logps_NK.tolist(), pa.list_(pa.float64()))})

    return work
