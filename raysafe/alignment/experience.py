"""What a policy wrote in one step, and what was found out about it: answers as rows, figures of tokens as flat arrays.

C answers of N tokens together, in the order of the rows; (C, T) where answers are padded to the longest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from raysafe.alignment.prepare import ids
from raysafe.models.packing import Layout, TokenBatch, lay_out
from raysafe.runtime.batches import deal, micro_batches


def token_places(lengths_C: np.ndarray, answers: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where the tokens of some answers stand in a flat array (N,) of all, in the order of these answers."""
    ends = np.cumsum(lengths_C).tolist()
    spans = [np.arange(ends[i] - int(lengths_C[i]), ends[i]) for i in answers]
    return np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)


@dataclass
class Samples:
    """Answers to prompts; those to one prompt share a group and stand together."""

    prompts: list[list[int]]
    """Token ids of each group's prompt."""
    group_C: np.ndarray
    answers: list[np.ndarray]
    """Token ids of each answer, with its end-of-sequence token where it has one."""
    texts: list[str]
    complete_C: np.ndarray
    """Whether the answer ended by itself, not at the limit."""
    rollout_logps_N: np.ndarray
    """Under the engine that wrote them."""
    version: int
    """Of the weights that wrote them."""
    tokens: dict[str, np.ndarray] = field(default_factory=dict)
    """Further figures of tokens, (N,)."""
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    """Figures of answers, (C,)."""

    @property
    def lengths_C(self) -> np.ndarray:
        return np.array([len(answer) for answer in self.answers], dtype=np.int64)

    @property
    def mask_CT(self) -> Tensor:
        lengths_C = torch.from_numpy(self.lengths_C)
        return torch.arange(int(lengths_C.max()))[None] < lengths_C[:, None]

    def padded(self, flat_N: np.ndarray) -> Tensor:
        """(C, T) in float64, zero where an answer has no token."""
        mask_CT = self.mask_CT
        padded_CT = torch.zeros(mask_CT.shape, dtype=torch.float64)
        padded_CT[mask_CT] = torch.from_numpy(np.array(flat_N, dtype=np.float64))
        return padded_CT

    def flat(self, padded_CT: Tensor) -> np.ndarray:
        """The reverse of `padded`, (N,)."""
        return padded_CT[self.mask_CT].numpy()

    def table(self, units_C: np.ndarray | None = None, **figures_N: np.ndarray) -> pa.Table:
        """Rows for a trainer: `prompt_ids`, `answer_ids`, `group`, `units` and the figures of tokens as lists.

        units: what each answer adds to the divisor of the loss; its tokens by default.
        """
        offsets = pa.array(np.concatenate([[0], np.cumsum(self.lengths_C)]), pa.int32())
        flat_ids = pa.array(np.concatenate(self.answers), pa.int32())
        units_C = self.lengths_C if units_C is None else units_C
        columns = {
            "prompt_ids": pa.array([self.prompts[group] for group in self.group_C], pa.list_(pa.int32())),
            "answer_ids": pa.ListArray.from_arrays(offsets, flat_ids),
            "group": pa.array(self.group_C, pa.int32()),
            "units": pa.array(units_C, pa.float64()),
        }
        for name, figure_N in figures_N.items():
            columns[name] = pa.ListArray.from_arrays(offsets, pa.array(figure_N, pa.float64()))
        return pa.table(columns)


@dataclass(frozen=True)
class ExperienceBatch:
    """Answers laid out for the model; figures of their N tokens."""

    tokens: TokenBatch
    figures: Mapping[str, Tensor]
    weight: float

    def to(self, device: torch.device) -> ExperienceBatch:
        figures = {name: figure_N.to(device) for name, figure_N in self.figures.items()}
        return replace(self, tokens=self.tokens.to(device), figures=figures)


KEYS = ("prompt_ids", "answer_ids", "group", "units")


def collate(rows: pa.Table, layout: Layout) -> ExperienceBatch:
    """A batch of rows; neighbours of one group share their prompt."""
    groups = rows["group"].to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    prompts = ids(rows["prompt_ids"].take(pa.array(starts)))
    answers = ids(rows["answer_ids"])
    branches = [answers[start:end] for start, end in pairwise([*starts.tolist(), len(answers)])]
    figures = {name: torch.from_numpy(flat_values(rows[name])) for name in rows.column_names if name not in KEYS}
    return ExperienceBatch(lay_out(prompts, branches, layout), figures, float(rows["units"].to_numpy().sum()))


def flat_values(column: pa.ChunkedArray) -> np.ndarray:
    """The values of a list<double> column, end to end, as an array of its own."""
    return np.array(column.combine_chunks().flatten().to_numpy(), dtype=np.float64)


def plan(rows: pa.Table, *, ranks: int, budget: int, layout: Layout) -> list[list[np.ndarray]]:
    """Micro-batches of each rank, as places of rows: every row once, each batch within `budget` tokens.

    Answers to one prompt stay together as far as the budget and an even share for each rank allow.
    """
    prompts_R, answers_R = _list_lengths(rows["prompt_ids"]), answer_lengths(rows)
    groups_R = rows["group"].to_numpy()
    if layout.share_prompt:
        first_R = np.concatenate([[True], groups_R[1:] != groups_R[:-1]])
        fair = -(-int(answers_R.sum() + prompts_R[first_R].sum()) // ranks)
        pieces, costs = _pieces(groups_R, prompts_R, answers_R, min(budget, fair))
    else:
        pieces, costs = [[row] for row in range(len(groups_R))], (prompts_R + answers_R).tolist()
    plans = []
    for hand in deal(costs, ranks):
        mine = micro_batches([costs[i] for i in hand], budget, padded=not layout.pack)
        batches = [np.sort(np.concatenate([pieces[hand[i]] for i in group])) for group in mine]
        if layout.share_prompt and not layout.pack:
            # pieces of one group that meet become one longer row, to which all others are padded
            batches = [
                part
                for batch, group in zip(batches, mine, strict=True)
                for part in (
                    [batch]
                    if len(group) == 1 or _padded_cost(batch, groups_R, prompts_R, answers_R) <= budget
                    else [np.array(pieces[hand[i]]) for i in group]
                )
            ]
        plans.append(batches)
    return plans


def _padded_cost(rows: np.ndarray, groups_R: np.ndarray, prompts_R: np.ndarray, answers_R: np.ndarray) -> int:
    """Tokens of rows that are padded to the longest, the rows of a group being one."""
    _, first, group = np.unique(groups_R[rows], return_index=True, return_inverse=True)
    lengths = prompts_R[rows][first] + np.bincount(group, weights=answers_R[rows])
    return int(len(lengths) * lengths.max())


def _pieces(
    groups_R: np.ndarray, prompts_R: np.ndarray, answers_R: np.ndarray, limit: int
) -> tuple[list[list[int]], list[int]]:
    """Runs of rows of one group, cut where the next answer would exceed the limit, and their costs in tokens."""
    pieces: list[list[int]] = []
    costs: list[int] = []
    for row, (group, prompt, answer) in enumerate(zip(groups_R, prompts_R, answers_R, strict=True)):
        if pieces and groups_R[pieces[-1][0]] == group and costs[-1] + answer <= limit:
            pieces[-1].append(row)
            costs[-1] += int(answer)
        else:
            pieces.append([row])
            costs.append(int(prompt + answer))
    return pieces, costs


def answer_lengths(rows: pa.Table) -> np.ndarray:
    """Tokens of each row's answer, (R,)."""
    return _list_lengths(rows["answer_ids"])


def _list_lengths(column: pa.ChunkedArray) -> np.ndarray:
    return np.diff(np.asarray(column.combine_chunks().offsets)).astype(np.int64)


def minibatches(rows: pa.Table, count: int, *, seed: Sequence[int]) -> list[np.ndarray]:
    """Places of rows in `count` parts of nearly equal tokens, whole groups together, in a random order by `seed`."""
    groups_R = rows["group"].to_numpy()
    answers_R = answer_lengths(rows)
    names, group_R = np.unique(groups_R, return_inverse=True)
    tokens_G = np.bincount(group_R, weights=answers_R).astype(np.int64)
    order_G = np.random.default_rng(seed).permutation(len(names))
    hands = deal(tokens_G[order_G].tolist(), min(count, len(names)))
    return [np.flatnonzero(np.isin(group_R, order_G[hand])) for hand in hands]
