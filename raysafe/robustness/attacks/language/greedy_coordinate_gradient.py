"""Greedy coordinate gradient (Zou, Wang, Carlini, Nasr, Kolter and Fredrikson 2023, algorithm 1), through a guard too.

Each step proposes single substitutions in the suffix, by the gradient of the loss at the tokens' one-hot vectors, and
goes on with the best of a drawn batch. Where there is a guard, what it stops isn't a candidate: the attacker adapts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from raysafe.robustness.attacks.language.settings import GCGSettings
from raysafe.robustness.attacks.language.suffix_problem import Guard, SuffixProblem


@dataclass(frozen=True)
class SuffixResult:
    """The best suffix that was met. `success`: greedy decoding of the model begins with the target after `text`, as it
    is encoded anew, and the guard, where there is one, lets it through."""

    text: str
    loss: float
    success: bool
    queries: int
    """Sequences' forward and backward passes."""
    losses: list[float] = field(default_factory=list)
    """Of the suffix that each step went on with."""


def greedy_coordinate_gradient(
    problem: SuffixProblem, settings: GCGSettings, guard: Guard | None = None, advance: Callable[[], None] | None = None
) -> SuffixResult:
    """Ends at the first suffix that succeeds. advance: called after each step."""
    generator = torch.Generator().manual_seed(settings.seed)
    allowed_V = printable(problem)
    suffix = best = problem.start
    loss_B, hit_B = problem.losses([suffix])
    lowest, losses = float(loss_B[0]), []
    found = bool(hit_B[0]) and (guard is None or guard(problem.text(suffix)))
    for _ in range(settings.steps):
        if found:
            break
        candidates = propose(problem, suffix, settings, allowed_V, generator)
        keep = problem.spelled(candidates)
        candidates = [one for one, good in zip(candidates, keep, strict=True) if good]
        if guard is not None:
            candidates = [one for one in candidates if guard(problem.text(one))]
        if candidates:
            loss_B, hit_B = problem.losses(candidates)
            # a suffix that succeeds is taken, whatever another's loss
            place = int(torch.where(hit_B, loss_B - 1e6, loss_B).argmin())
            suffix, loss = candidates[place], float(loss_B[place])
            losses.append(loss)
            if loss < lowest or bool(hit_B[place]):
                best, lowest, found = suffix, loss, bool(hit_B[place])
        if advance is not None:
            advance()
    return settled(problem, best, guard, losses)


def propose(
    problem: SuffixProblem, suffix: list[int], settings: GCGSettings, allowed_V: Tensor, generator: torch.Generator
) -> list[list[int]]:
    """Distinct suffixes that differ from this one in a place."""
    places_B = torch.randint(len(suffix), (settings.candidates,), generator=generator)
    if settings.proposals == "gradient":
        falls_LV = -problem.gradient(suffix).float().cpu()
        falls_LV[:, ~allowed_V] = -torch.inf
        top_LK = falls_LV.topk(min(settings.top_k, int(allowed_V.sum())), dim=1).indices
        drawn_B = torch.randint(top_LK.shape[1], (settings.candidates,), generator=generator)
        tokens_B = top_LK[places_B, drawn_B]
    else:
        tokens = allowed_V.nonzero().squeeze(1)
        tokens_B = tokens[torch.randint(len(tokens), (settings.candidates,), generator=generator)]
    proposed = {
        (*suffix[:place], token, *suffix[place + 1 :])
        for place, token in zip(places_B.tolist(), tokens_B.tolist(), strict=True)
    }
    # a set's order isn't a seed's
    return [list(one) for one in sorted(proposed) if list(one) != suffix]


def printable(problem: SuffixProblem) -> Tensor:
    """(V,) bool: tokens that an attacker can type, in ASCII, and that aren't special."""
    tokenizer = problem.chat.tokenizer
    size = problem.vocabulary
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    texts = tokenizer.batch_decode([[token] for token in range(min(size, len(tokenizer)))])
    good = [
        token not in special and text.isascii() and text.isprintable() and bool(text.strip())
        for token, text in enumerate(texts)
    ]
    return torch.tensor(good + [False] * (size - len(good)))


def settled(problem: SuffixProblem, suffix: list[int], guard: Guard | None, losses: list[float]) -> SuffixResult:
    """What is claimed is checked again, by the text."""
    loss_B, hit_B = problem.losses([suffix])
    text = problem.text(suffix)
    success = bool(hit_B[0]) and problem.spelled([suffix])[0] and (guard is None or guard(text))
    return SuffixResult(text, float(loss_B[0]), success, problem.queries, losses)
