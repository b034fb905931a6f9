"""Attack in the space of embeddings (Schwinn et al. 2024): a suffix of vectors, moved by the sign of the gradient.

It needs the weights, and no text spells what it finds: it measures what a model can still be made to say by whoever
holds it, such as after unlearning, and bounds from above what suffixes of text can reach. No guard sees it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from raysafe.robustness.attacks.language.settings import EmbeddingSettings
from raysafe.robustness.attacks.language.suffix_problem import SuffixProblem


@dataclass(frozen=True)
class EmbeddingResult:
    """`success`: greedy decoding begins with the target. `distance`: the furthest that a feature was moved."""

    success: bool
    loss: float
    distance: float
    queries: int
    losses: list[float]


def embedding_attack(problem: SuffixProblem, settings: EmbeddingSettings) -> EmbeddingResult:
    """Ends at the first success."""
    start_LD = problem.embeddings(problem.start)
    suffix_LD = start_LD.clone()
    losses: list[float] = []
    for step in range(settings.steps + 1):
        suffix_LD.requires_grad_(True)
        loss, hit = problem.loss_of_embeddings(suffix_LD)
        losses.append(float(loss.detach()))
        if hit or step == settings.steps:
            break
        (gradient_LD,) = torch.autograd.grad(loss, suffix_LD)
        suffix_LD = (suffix_LD - settings.step_size * gradient_LD.sign()).detach()
    distance = float((suffix_LD.detach() - start_LD).abs().max())
    return EmbeddingResult(hit, losses[-1], distance, problem.queries, losses)
