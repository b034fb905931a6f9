"""A text classifier as a backend for /v1/predict: transformers' sequence classifiers, and RaySafe's reward models."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from raysafe.errors import ModelError
from raysafe.serving.backend import Inputs, ModelFailed, Prediction, PromptRefused
from raysafe.serving.batcher import Batcher, asked
from raysafe.serving.texts import check_texts
from raysafe.serving.vector_models import WritesNothing

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from raysafe.serving.replicas import ReplicaSettings

REWARD = "reward"
"""The name of the one score of a model with one label, such as a reward model: it is no probability."""


class TextClassifier(WritesNothing):
    """A Backend over a sequence classifier.

    Scores are probabilities of the labels: a softmax, or where the config says multi_label_classification a sigmoid
    each. A model with one label gives its output as it is: a reward model reads a text as a bare answer, with the
    end-of-sequence token behind it.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, max_batch: int, max_waiting: int
    ) -> None:
        from raysafe.models.language import context_length

        self.model, self._tokenizer = model.eval(), tokenizer
        self._context = min(context_length(model.config), tokenizer.model_max_length)
        # transformers makes one name an output, and turns their keys into numbers
        names: dict[Any, str] = dict(model.config.id2label or {})
        self._labels = tuple(str(names[place]) for place in sorted(names))
        if len(set(self._labels)) < len(self._labels):
            raise ModelError("the classifier's config gives two of its labels the same name: rename one in id2label")
        self._batcher: Batcher[list[int], list[float]] = Batcher(
            self._logits, max_batch=max_batch, max_waiting=max_waiting
        )

    async def predict(self, inputs: Inputs) -> tuple[Prediction, ...]:
        ids = await asyncio.to_thread(lambda: [self._encode(text) for text in inputs])
        logits_BK = await asked(self._batcher, ids)
        if not all(math.isfinite(logit) for logits_K in logits_BK for logit in logits_K):
            raise ModelFailed("the classifier's output is not finite")
        return tuple(self._prediction(logits_K) for logits_K in logits_BK)

    @property
    def alive(self) -> bool:
        return self._batcher.alive

    def close(self) -> None:
        self._batcher.close()

    def _encode(self, text: str | tuple[float, ...]) -> list[int]:
        if not isinstance(text, str):
            raise PromptRefused("this model takes texts, not vectors", "invalid_input")
        check_texts([text])
        ids: list[int] = self._tokenizer(text, truncation=False, verbose=False)["input_ids"]
        if len(self._labels) == 1 and isinstance(self._tokenizer.eos_token_id, int):
            ids = [*ids, self._tokenizer.eos_token_id]
        if not ids:
            raise PromptRefused("a text is empty", "invalid_input")
        if len(ids) > self._context:
            message = f"a text has {len(ids):,} tokens, and this model takes {self._context:,}: shorten it"
            raise PromptRefused(message, "context_length_exceeded")
        return ids

    @torch.inference_mode()
    def _logits(self, batch: Sequence[list[int]]) -> list[list[float]]:
        width, pad = max(map(len, batch)), self.model.config.pad_token_id
        if pad is None and len({len(ids) for ids in batch}) > 1:
            # transformers finds a row's last token by the padding token
            return [logits_K for ids in batch for logits_K in self._logits([ids])]
        ids_BT = torch.tensor([[*ids, *[pad or 0] * (width - len(ids))] for ids in batch], device=self.model.device)
        lengths_B1 = torch.tensor([[len(ids)] for ids in batch], device=self.model.device)
        mask_BT = (torch.arange(width, device=self.model.device)[None] < lengths_B1).long()
        out: Any = self.model(input_ids=ids_BT, attention_mask=mask_BT)
        return out.logits.float().tolist()

    def _prediction(self, logits_K: list[float]) -> Prediction:
        if len(logits_K) == 1:
            return Prediction(REWARD, {REWARD: logits_K[0]})
        logits = torch.tensor(logits_K, dtype=torch.float64)
        several = self.model.config.problem_type == "multi_label_classification"
        scores_K = (logits.sigmoid() if several else logits.softmax(-1)).tolist()
        scores = dict(zip(self._labels, scores_K, strict=True))
        return Prediction(max(scores, key=scores.__getitem__), scores)


def load_classifier(settings: ReplicaSettings) -> TextClassifier:
    """The classifier in the settings' folder; raises ModelError."""
    from transformers import AutoModelForSequenceClassification

    from raysafe.models.language import check_tokenizer, load_pretrained, load_tokenizer
    from raysafe.serving.local import to_device

    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    model = load_pretrained(AutoModelForSequenceClassification, settings.folder, dtype=dtype, attention=None)
    tokenizer = load_tokenizer(settings.folder)
    check_tokenizer(model, tokenizer)
    to_device(model)
    return TextClassifier(model, tokenizer, max_batch=settings.max_batch, max_waiting=settings.max_waiting)
