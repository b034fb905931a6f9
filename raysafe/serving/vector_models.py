"""Small networks on vectors and images as backends: classifiers, which answer /v1/predict.

An image comes as a vector too: its channels one after the other, each row by row. Policies are in policy_models.py.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

import torch

from raysafe.models.classifier import head_of, input_shape, load_classifier
from raysafe.models.folder import CONFIG, read_values
from raysafe.models.mlp import MODEL_TYPE, ClassifierHead, Mlp, Smoothing, read_mlp_config
from raysafe.models.smoothed import SmoothedClassifier
from raysafe.models.vision import Vision
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
    Situation,
)
from raysafe.serving.batcher import Batcher, asked

if TYPE_CHECKING:
    from raysafe.serving.replicas import LocalBackend, ReplicaSettings

Vector = tuple[float, ...]
BATCH = 256


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

    async def act(self, situation: Situation) -> tuple[Move, ...]:
        raise NotOffered


class VectorClassifier(WritesNothing):
    """A Backend over a classifier. What it is asked together, it computes together."""

    def __init__(self, model: Mlp | Vision, head: ClassifierHead, *, max_waiting: int) -> None:
        self.model, self._labels, self._shape = model, head.labels, input_shape(model)
        self._device = next(model.parameters()).device
        self._batcher: Batcher[Vector, Vector] = Batcher(self._outputs, max_batch=BATCH, max_waiting=max_waiting)
        self._certifier: Batcher[Vector, Prediction] | None = None
        if head.smoothing is not None:
            # one input is a batch by itself: its noisy copies
            work = _certify(model, head.labels, head.smoothing, self._shape, self._device)
            self._certifier = Batcher(work, max_batch=1, max_waiting=max_waiting)

    async def predict(self, inputs: Inputs) -> tuple[Prediction, ...]:
        vectors = [checked(one, math.prod(self._shape)) for one in inputs]
        if len(self._shape) == 3:
            _check_pixels(vectors)
        if self._certifier is not None:
            return tuple(await asked(self._certifier, vectors))
        logits_BK = await finite(self._batcher, vectors)
        return tuple(_prediction(self._labels, logits_K) for logits_K in logits_BK)

    @property
    def alive(self) -> bool:
        return self._batcher.alive and (self._certifier is None or self._certifier.alive)

    def close(self) -> None:
        self._batcher.close()
        if self._certifier is not None:
            self._certifier.close()

    @torch.inference_mode()
    def _outputs(self, vectors: list[Vector]) -> list[Vector]:
        inputs_BD = torch.tensor(vectors, dtype=torch.float32, device=self._device)
        outputs_BK = self.model(inputs_BD.view(-1, *self._shape))
        return [tuple(outputs_K) for outputs_K in outputs_BK.tolist()]


def checked(values: str | Vector, wanted: int) -> Vector:
    """The vector; raises PromptRefused where it is none of `wanted` finite numbers."""
    if isinstance(values, str):
        raise PromptRefused(f"this model takes vectors of {wanted:,} numbers, not texts", "invalid_input")
    if len(values) != wanted:
        raise PromptRefused(f"this model takes vectors of {wanted:,} numbers, got {len(values):,}", "invalid_input")
    if not all(map(math.isfinite, values)):
        raise PromptRefused("a vector holds a number that is not finite", "invalid_input")
    return values


def _check_pixels(images: list[Vector]) -> None:
    """Raise PromptRefused for what is no image, as one of 0 to 255 isn't."""
    odd = next((value for image in images for value in image if not 0 <= value <= 1), None)
    if odd is not None:
        raise PromptRefused(f"pixels must lie between 0 and 1, got {odd:g}: divide by 255", "invalid_input")


async def finite(batcher: Batcher[Vector, Vector], vectors: list[Vector]) -> list[Vector]:
    """The network's outputs at the vectors; raises ModelFailed where they aren't finite."""
    outputs_BK = await asked(batcher, vectors)
    if not all(math.isfinite(value) for outputs_K in outputs_BK for value in outputs_K):
        # weights are finite: the input was too large for them
        raise ModelFailed("OverflowError")
    return outputs_BK


def _certify(
    model: Mlp | Vision,
    labels: tuple[str, ...],
    smoothing: Smoothing,
    shape: tuple[int, ...],
    device: torch.device,
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
                torch.tensor(vector, dtype=torch.float32).view(shape),
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


def load_vector_model(settings: ReplicaSettings) -> LocalBackend:
    """The network in the settings' folder, by its head; raises ModelError."""
    from raysafe.models.language import model_folder
    from raysafe.rl.policy import load_policy
    from raysafe.serving.local import to_device
    from raysafe.serving.policy_models import PolicyModel

    folder = model_folder(settings.folder)
    if read_values(folder / CONFIG).get("model_type") == MODEL_TYPE:
        head = read_mlp_config(folder).head
        if not isinstance(head, ClassifierHead):
            policy = load_policy(folder)
            to_device(policy.network)
            return PolicyModel(policy, max_waiting=settings.max_waiting)
    model = load_classifier(folder)
    to_device(model)
    return VectorClassifier(model, head_of(model), max_waiting=settings.max_waiting)
