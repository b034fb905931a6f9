"""Small networks on vectors as backends: classifiers answer /v1/predict, policies /v1/act."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

import torch

from raysafe.models.mlp import ClassifierHead, DiscreteHead, Mlp, Smoothing, load_mlp
from raysafe.models.smoothed import SmoothedClassifier
from raysafe.serving.backend import (
    Completion,
    Embeddings,
    Inputs,
    ModelFailed,
    Move,
    NotOffered,
    Piece,
    Prediction,
    Prompt,
    PromptRefused,
)
from raysafe.serving.batcher import Batcher, asked

if TYPE_CHECKING:
    from raysafe.serving.replicas import ReplicaSettings

Vector = tuple[float, ...]
_BATCH = 256


class WritesNothing:
    """The methods of a model that writes no text."""

    async def complete(self, prompt: Prompt) -> Completion:
        raise NotOffered

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        raise NotOffered
        yield

    async def embed(self, texts: tuple[str, ...]) -> Embeddings:
        raise NotOffered

    async def predict(self, inputs: Inputs) -> tuple[Prediction, ...]:
        raise NotOffered

    async def act(self, observation: Vector) -> Move:
        raise NotOffered


class VectorModel(WritesNothing):
    """A Backend over an Mlp. What it is asked together, it computes together."""

    def __init__(self, model: Mlp, *, max_waiting: int) -> None:
        self.model = model
        self._device = next(model.parameters()).device
        self._batcher: Batcher[Vector, Vector] = Batcher(self._outputs, max_batch=_BATCH, max_waiting=max_waiting)
        self._certifier: Batcher[Vector, Prediction] | None = None
        head = model.config.head
        if isinstance(head, ClassifierHead) and head.smoothing is not None:
            # one input is a batch by itself: its noisy copies
            work = _certify(model, head.labels, head.smoothing, self._device)
            self._certifier = Batcher(work, max_batch=1, max_waiting=max_waiting)

    async def predict(self, inputs: Inputs) -> tuple[Prediction, ...]:
        head = self.model.config.head
        if not isinstance(head, ClassifierHead):
            raise NotOffered
        vectors = [self._checked(one) for one in inputs]
        if self._certifier is not None:
            return tuple(await asked(self._certifier, vectors))
        logits_BK = await self._ask(vectors)
        return tuple(_prediction(head.labels, logits_K) for logits_K in logits_BK)

    async def act(self, observation: Vector) -> Move:
        head = self.model.config.head
        if isinstance(head, ClassifierHead):
            raise NotOffered
        (outputs_K,) = await self._ask([self._checked(observation)])
        if isinstance(head, DiscreteHead):
            return Move(max(range(len(outputs_K)), key=outputs_K.__getitem__))
        return Move(outputs_K)

    @property
    def alive(self) -> bool:
        return self._batcher.alive and (self._certifier is None or self._certifier.alive)

    def close(self) -> None:
        self._batcher.close()
        if self._certifier is not None:
            self._certifier.close()

    def _checked(self, values: str | Vector) -> Vector:
        wanted = self.model.config.inputs
        if isinstance(values, str):
            raise PromptRefused(f"this model takes vectors of {wanted:,} numbers, not texts", "invalid_input")
        if len(values) != wanted:
            raise PromptRefused(f"this model takes vectors of {wanted:,} numbers, got {len(values):,}", "invalid_input")
        if not all(map(math.isfinite, values)):
            raise PromptRefused("a vector holds a number that is not finite", "invalid_input")
        return values

    async def _ask(self, vectors: list[Vector]) -> list[Vector]:
        outputs_BK = await asked(self._batcher, vectors)
        if not all(math.isfinite(value) for outputs_K in outputs_BK for value in outputs_K):
            # weights are finite: the input was too large for them
            raise ModelFailed("OverflowError")
        return outputs_BK

    @torch.inference_mode()
    def _outputs(self, vectors: list[Vector]) -> list[Vector]:
        outputs_BK = self.model(torch.tensor(vectors, dtype=torch.float32, device=self._device))
        return [tuple(outputs_K) for outputs_K in outputs_BK.tolist()]


def _certify(
    model: Mlp, labels: tuple[str, ...], smoothing: Smoothing, device: torch.device
) -> Callable[[list[Vector]], list[Prediction]]:
    """What smooths inputs one by one. The score is the lower bound on the label's probability under noise."""
    smoothed = SmoothedClassifier(model, smoothing.sigma, device=str(device))
    generator = torch.Generator(device)
    # who asks must not know the noise
    generator.seed()

    def work(vectors: list[Vector]) -> list[Prediction]:
        found = []
        for vector in vectors:
            certificate = smoothed.certify(
                torch.tensor(vector, dtype=torch.float32),
                generator=generator,
                selection=smoothing.selection,
                samples=smoothing.samples,
                alpha=smoothing.alpha,
            )
            label = None if certificate.label is None else labels[certificate.label]
            scores = {} if label is None else {label: certificate.p_low}
            found.append(Prediction(label, scores, certificate.radius))
        return found

    return work


def _prediction(labels: tuple[str, ...], logits_K: Vector) -> Prediction:
    highest = max(logits_K)
    weights_K = [math.exp(logit - highest) for logit in logits_K]
    scores = {label: weight / sum(weights_K) for label, weight in zip(labels, weights_K, strict=True)}
    return Prediction(max(scores, key=scores.__getitem__), scores)


def load_vector_model(settings: ReplicaSettings) -> VectorModel:
    """The network in the settings' folder; raises ModelError."""
    from raysafe.models.language import model_folder
    from raysafe.serving.local import to_device

    model = load_mlp(model_folder(settings.folder))
    to_device(model)
    return VectorModel(model, max_waiting=settings.max_waiting)
