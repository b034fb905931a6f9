"""Token batches for completions that may share a prompt: packed into one row, or padded.

A tree is one prompt and the completions (branches) that continue it. Packed, its tokens stand once, prompt first, and
each branch attends to the prompt and to itself only (see attention.py); positions restart after the prompt for every
branch, so the result is that of encoding prompt + completion alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from raysafe.config import Config


class Layout(Config):
    """How completions are laid out for the model. Every combination computes the same numbers."""

    share_prompt: bool = Field(
        default=True, description="Encode a prompt once for all the completions that continue it."
    )
    pack: bool = Field(default=True, description="Lay sequences end to end instead of padding them to the longest.")
    completion_logits: bool = Field(default=True, description="Compute logits at completion tokens only.")


@dataclass(frozen=True)
class Tree:
    """Where one prompt and its branches stand in a row, as half-open token ranges."""

    prompt: tuple[int, int]
    branches: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TokenBatch:
    """Model inputs and where the completions stand in them. R rows of T tokens, N completion tokens, C completions."""

    input_ids_RT: Tensor
    position_ids_RT: Tensor
    mask_RT: Tensor | None
    """1 where a token stands; None when packed. Shape (R, 1, T, T) where padded rows hold trees."""
    trees: tuple[Tree, ...] | None
    """Trees of the one packed row; None when padded."""
    predictor_N: Tensor
    """Flat index (row * T + column) of the token whose logits predict each completion token."""
    last_C: Tensor
    """Flat index of each completion's last token."""
    target_N: Tensor
    completion_N: Tensor
    """Which completion a target belongs to, 0 to C - 1."""
    completions: int
    logits_everywhere: bool

    def to(self, device: torch.device) -> TokenBatch:
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)

    @property
    def tokens(self) -> int:
        """Completion tokens in the batch."""
        return self.target_N.numel()

    def model_inputs(self) -> dict[str, object]:
        """Arguments of a transformers forward pass, the choice of logits aside."""
        inputs: dict[str, object] = {
            "input_ids": self.input_ids_RT,
            "position_ids": self.position_ids_RT,
            "use_cache": False,
        }
        if self.trees is not None:
            inputs["packed_trees"] = self.trees
        else:
            inputs["attention_mask"] = self.mask_RT
        return inputs


def lay_out(prompts: Sequence[np.ndarray], branches: Sequence[Sequence[np.ndarray]], layout: Layout) -> TokenBatch:
    """Token ids of prompts (P,) and, per prompt, of the completions that continue it, as one batch.

    Completions are numbered prompt by prompt. With no prompt, a completion's first token has no predictor: it is
    no target.
    """
    if not layout.share_prompt:
        prompts = [prompt for prompt, several in zip(prompts, branches, strict=True) for _ in several]
        branches = [[branch] for several in branches for branch in several]
    trees = []
    for prompt, several in zip(prompts, branches, strict=True):
        end, ranges = len(prompt), []
        for branch in several:
            ranges.append((end, end + len(branch)))
            end += len(branch)
        trees.append(Tree((0, len(prompt)), tuple(ranges)))
    tokens = [np.concatenate([prompt, *several]) for prompt, several in zip(prompts, branches, strict=True)]
    lengths = np.array([len(t) for t in tokens])
    if layout.pack:
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        trees = [_shifted(tree, int(start)) for tree, start in zip(trees, starts, strict=True)]
        rows, width = 1, int(lengths.sum())
        flat_starts = np.zeros(len(trees), dtype=np.int64)
        ids_RT = np.concatenate(tokens)[None]
    else:
        rows, width = len(trees), int(lengths.max())
        flat_starts = np.arange(rows, dtype=np.int64) * width
        ids_RT = np.zeros((rows, width), dtype=np.int64)
        for row, row_tokens in enumerate(tokens):
            ids_RT[row, : len(row_tokens)] = row_tokens
    positions = np.zeros(rows * width, dtype=np.int64)
    predictors, targets, owners, last = [], [], [], []
    flat_ids = ids_RT.reshape(-1)
    completion = 0
    for tree, offset in zip(trees, flat_starts, strict=True):
        p0, p1 = tree.prompt[0] + offset, tree.prompt[1] + offset
        positions[p0:p1] = np.arange(p1 - p0)
        for start, end in tree.branches:
            b0, b1 = start + offset, end + offset
            positions[b0:b1] = np.arange(p1 - p0, p1 - p0 + b1 - b0)
            first = b0 if p1 > p0 else b0 + 1
            target = np.arange(first, b1)
            predictor = target - 1
            if p1 > p0:
                predictor[:1] = p1 - 1
            predictors.append(predictor)
            targets.append(flat_ids[target])
            owners.append(np.full(len(target), completion))
            last.append(b1 - 1)
            completion += 1
    return TokenBatch(
        input_ids_RT=torch.from_numpy(ids_RT.astype(np.int64)),
        position_ids_RT=torch.from_numpy(positions.reshape(rows, width)),
        mask_RT=None if layout.pack else _padding_mask(trees, lengths, width, shared=layout.share_prompt),
        trees=tuple(trees) if layout.pack else None,
        predictor_N=torch.from_numpy(np.concatenate(predictors)),
        last_C=torch.tensor(last),
        target_N=torch.from_numpy(np.concatenate(targets).astype(np.int64)),
        completion_N=torch.from_numpy(np.concatenate(owners)),
        completions=completion,
        logits_everywhere=not layout.completion_logits,
    )


def tree_mask(tree: Tree, length: int) -> Tensor:
    """(length, length) bool: which token may attend to which within one tree that starts at 0."""
    mask_TT = torch.ones(length, length, dtype=torch.bool).tril()
    for index, (start, end) in enumerate(tree.branches):
        for other_start, other_end in tree.branches[:index]:
            mask_TT[start:end, other_start:other_end] = False
    return mask_TT


def _shifted(tree: Tree, by: int) -> Tree:
    return Tree(
        (tree.prompt[0] + by, tree.prompt[1] + by), tuple((start + by, end + by) for start, end in tree.branches)
    )


def _padding_mask(trees: Sequence[Tree], lengths: np.ndarray, width: int, *, shared: bool) -> Tensor:
    if not shared:
        return torch.from_numpy((np.arange(width)[None] < lengths[:, None]).astype(np.int64))
    mask_R1TT = torch.eye(width, dtype=torch.bool).repeat(len(trees), 1, 1, 1)
    for row, (tree, length) in enumerate(zip(trees, lengths, strict=True)):
        mask_R1TT[row, 0, :length, :length] = tree_mask(tree, int(length))
    return mask_R1TT
