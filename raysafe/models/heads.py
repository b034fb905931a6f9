"""A linear head on a language model: rewards of answers (Stiennon et al. 2020, sec. 3.4), or a critic's values.

The module wraps transformers' sequence classifier with one label, so a saved reward model is a folder that
`AutoModelForSequenceClassification` opens.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from raysafe.errors import ModelError
from raysafe.models.chat import ChatFormat
from raysafe.models.language import load_config, load_policy, load_pretrained
from raysafe.models.presets import PREFIX

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEAD = "score"
"""What transformers calls the head of its decoder-only classifiers."""


class RewardModel(nn.Module):
    """`classifier`: a decoder-only transformers sequence classifier with one label."""

    def __init__(self, classifier: PreTrainedModel) -> None:
        super().__init__()
        head = getattr(classifier, HEAD, None)
        if not isinstance(head, nn.Linear) or head.out_features != 1:
            raise ModelError(
                f"{type(classifier).__name__} is no reward model: expected a decoder-only classifier with one label"
            )
        self.classifier = classifier

    @classmethod
    def from_policy(cls, model: str, *, seed: int = 0, attention: str | None = None) -> Self:
        """A policy's body under a new head, drawn from `seed` with the spread 1 / sqrt(features + 1), in float32."""
        classifier = _classifier(model, seed, attention)
        reward_model = cls(classifier)
        head = cast(nn.Linear, getattr(classifier, HEAD))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            head.weight.normal_(0.0, (head.in_features + 1) ** -0.5, generator=generator)
        return reward_model

    @property
    def backbone(self) -> PreTrainedModel:
        return cast("PreTrainedModel", self.classifier.base_model)

    def forward(self, positions_C: Tensor, **inputs: object) -> Tensor:
        """Rewards (C,) read at flat positions (row * T + column) of a batch, packed or padded, in float32 or better.

        inputs: arguments of the backbone's forward pass, such as TokenBatch.model_inputs(). With the positions of all
        tokens instead of last ones, the result is a critic's values.
        """
        hidden_RTD = self.backbone(**inputs).last_hidden_state
        head = cast(nn.Linear, getattr(self.classifier, HEAD))
        hidden_CD = hidden_RTD.flatten(0, 1)[positions_C]
        with torch.autocast(hidden_CD.device.type, enabled=False):
            dtype = torch.promote_types(head.weight.dtype, torch.float32)
            return nn.functional.linear(hidden_CD.to(dtype), head.weight.to(dtype)).squeeze(-1)


def load_reward_model(model: str | Path, *, attention: str | None = None) -> RewardModel:
    """A saved reward model in eval mode, float32; raises ModelError where `model` is another kind of model."""
    config = load_config(model)
    if not is_reward_config(config):
        raise ModelError(f"{model} is no reward model but a {(config.architectures or ['model'])[0]}: train one first")
    classifier = load_pretrained(
        AutoModelForSequenceClassification, model, dtype=torch.float32, attention=attention, num_labels=1
    )
    return RewardModel(classifier).eval()


def is_reward_config(config: object) -> bool:
    """Whether a model's config is that of a reward model."""
    architectures = getattr(config, "architectures", None) or []
    return any(name.endswith("ForSequenceClassification") for name in architectures)


def save_reward_model(model: RewardModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Write a folder that `AutoModelForSequenceClassification.from_pretrained` opens, with its tokenizer.

    transformers reads the score at the last token that isn't the padding token, so a tokenizer that pads with its
    end-of-sequence token is saved with another one.
    """
    tokenizer = copy.deepcopy(tokenizer)
    ends = [tokenizer.eos_token]
    if tokenizer.chat_template:
        ends += [tokenizer.convert_ids_to_tokens(stop) for stop in ChatFormat(tokenizer).stop_ids]
    candidates = (tokenizer.pad_token, tokenizer.bos_token, tokenizer.unk_token)
    tokenizer.pad_token = next((token for token in candidates if token and token not in ends), None)
    model.classifier.config.pad_token_id = tokenizer.pad_token_id
    model.classifier.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _classifier(model: str, seed: int, attention: str | None) -> PreTrainedModel:
    if model.startswith(PREFIX):
        policy = load_policy(model, attention=attention, seed=seed)
        config = copy.deepcopy(policy.config)
        config.num_labels = 1
        config._attn_implementation = attention or "sdpa"
        classifier = AutoModelForSequenceClassification.from_config(config)
        classifier.base_model.load_state_dict(policy.base_model.state_dict())
        return classifier.eval()
    try:
        return load_pretrained(
            AutoModelForSequenceClassification,
            model,
            dtype=torch.float32,
            attention=attention,
            may_miss=HEAD,
            num_labels=1,
        )
    except ModelError as error:
        raise ModelError(f"{error}; a reward model starts from a decoder-only language model") from error
