"""Having answers written: prompts dealt to the rollout engines, weights brought up to date first, answers put in order.

What is drawn depends on seed, step and prompt alone, not on the engine: a step that begins again writes the same.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raysafe.alignment.experience import Samples
from raysafe.alignment.online_data import Prompts
from raysafe.models.generate.engine import SamplingParams
from raysafe.runtime.batches import deal

if TYPE_CHECKING:
    from raysafe.alignment.online import OnlineJob
    from raysafe.alignment.roles import Written
    from raysafe.runtime.calls import Pending, RoleHandle


@dataclass
class _Begun:
    """Answers being written to a step's prompts."""

    step: int
    prompts: Prompts
    shares: list[list[int]]
    answers: int
    pending: Pending


class Writer:
    """The driver's side of the rollout engines."""

    def __init__(self, job: OnlineJob, rollout: RoleHandle, policy: RoleHandle) -> None:
        self.job, self.rollout, self.policy = job, rollout, policy
        self.version: int | None = None
        """What all engines hold."""
        self.begun: _Begun | None = None
        self.sync_s = 0.0
        """How long the last update of the engines took, 0 where none was needed."""

    def forget(self) -> None:
        """Engines or policy were just made: whatever the engines hold is not what it was."""
        self.version, self.begun = None, None

    def drop_pending(self) -> None:
        """Answers being written may never come: they are written again."""
        self.begun = None

    def write(self, prompts: Prompts, step: int | None, *, version: int) -> Samples:
        """Answers to the prompts: those begun before for this step, or else new ones by the policy's present version.

        step: None for validation, which draws the same way every time and writes one answer a prompt.
        """
        self.sync_s = 0.0
        begun = self.begun if step is not None and self.begun is not None and self.begun.step == step else None
        if begun is None:
            begun = self._begin(prompts, step, version)
        else:
            self.begun = None
        return _in_order(begun, begun.pending.result())

    def begin(self, prompts: Prompts, step: int, *, version: int) -> None:
        """Have answers written for a later step by the present version."""
        self.begun = self._begin(prompts, step, version)

    def _begin(self, prompts: Prompts, step: int | None, version: int) -> _Begun:
        self._sync(version)
        job = self.job
        answers = 1 if step is None else job.answers_per_prompt
        sampling = SamplingParams(
            max_tokens=job.max_tokens,
            stop=job.stop,
            n=answers,
            seed=job.seed * 1_000_003 + (0 if step is None else step + 1),
        )
        shares = shares_of(prompts.ids, self.rollout.ranks * job.chunks_per_engine)
        chunks = [([prompts.ids[i] for i in share], sampling, version) for share in shares]
        pending = self.rollout.start_spread("generate", chunks, straggler_factor=job.straggler_factor)
        return _Begun(-1 if step is None else step, prompts, shares, answers, pending)

    def _sync(self, version: int) -> None:
        if self.version == version:
            return
        if self.begun is not None:
            # chunks of it that no engine has taken yet would meet other weights than they ask for
            self.begun.pending.result()
        started = time.perf_counter()
        published: Any = self.policy.call("publish", version)[0]
        self.rollout.call("load", published)
        self.version = version
        self.sync_s = time.perf_counter() - started


def shares_of(prompts: list[list[int]], count: int) -> list[list[int]]:
    """Places of prompts for each of `count` chunks, of nearly equal tokens; equal prompts stay together, in order.

    An engine tells equal prompts apart by their order, so that each gets answers of its own.
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for place, prompt in enumerate(prompts):
        places.setdefault(tuple(prompt), []).append(place)
    kinds = list(places)
    # one more than the prompt, so that short prompts spread evenly too: their answers cost the same
    hands = deal([(len(kind) + 1) * len(places[kind]) for kind in kinds], min(count, len(kinds)))
    return [sorted(place for kind in hand for place in places[kinds[kind]]) for hand in hands]


def _in_order(begun: _Begun, written: list[Written]) -> Samples:
    """The answers of all chunks in the order of the prompts."""
    n = begun.answers
    count = len(begun.prompts) * n
    tokens: list[Any] = [None] * count
    logps: list[Any] = [None] * count
    texts = [""] * count
    complete_C = np.zeros(count, dtype=bool)
    for share, part in zip(begun.shares, written, strict=True):
        bounds = np.cumsum(part.lengths_C)[:-1]
        places = [place * n + sample for place in share for sample in range(n)]
        rows = zip(places, np.split(part.tokens_N, bounds), np.split(part.logps_N, bounds), part.texts, strict=True)
        for place, token_ids, logps_T, text in rows:
            tokens[place], logps[place], texts[place] = token_ids, logps_T, text
        complete_C[places] = part.complete_C
    return Samples(
        prompts=begun.prompts.ids,
        group_C=np.repeat(np.arange(len(begun.prompts)), n),
        answers=tokens,
        texts=texts,
        complete_C=complete_C,
        rollout_logps_N=np.concatenate(logps),
        version=written[0].version,
    )
