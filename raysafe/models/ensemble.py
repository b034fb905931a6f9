"""Scoring with saved reward models: the mean over an ensemble, and how far its members disagree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from raysafe.errors import ModelError
from raysafe.models.attention import PACKED, check_packable
from raysafe.models.chat import ChatFormat, Message
from raysafe.models.heads import RewardModel, load_reward_model
from raysafe.models.language import context_length, load_tokenizer
from raysafe.models.packing import Layout, lay_out
from raysafe.runtime.batches import micro_batches


class Scores(NamedTuple):
    """Rewards of N answers under M models."""

    mean_N: np.ndarray
    disagreement_N: np.ndarray
    """Standard deviation over the models (unbiased); zeros for a single model."""
    each_MN: np.ndarray


class RewardEnsemble:
    """One or more saved reward models that score answers or texts together."""

    def __init__(
        self,
        models: Sequence[str | Path],
        *,
        chat_template: str = "auto",
        device: str = "cpu",
        batch_tokens: int = 8192,
    ) -> None:
        """batch_tokens: the most tokens in one forward pass, a single longer answer aside."""
        if not models:
            raise ModelError("a reward ensemble needs at least one model")
        self.batch_tokens, self.device = batch_tokens, torch.device(device)
        self.models = [load_reward_model(model).to(self.device) for model in models]
        self.layout = Layout()
        try:
            for model in self.models:
                check_packable(model.backbone)
        except ModelError:
            self.layout = Layout(pack=False, share_prompt=False)
        for model in self.models:
            model.backbone.set_attn_implementation(PACKED if self.layout.pack else "sdpa")
        self.formats = [ChatFormat(load_tokenizer(model), chat_template) for model in models]

    def to(self, device: str) -> None:
        """Move the models."""
        self.device = torch.device(device)
        for model in self.models:
            model.to(self.device)

    def score(self, prompts: Sequence[Sequence[Message]], completions: Sequence[str]) -> Scores:
        """Rewards of each completion after its prompt; an empty prompt scores the completion as a bare text."""
        each = []
        encoded: dict[str, tuple[list[list[int]], ...]] = {}
        for model, chat in zip(self.models, self.formats, strict=True):
            if chat.fingerprint not in encoded:
                encoded[chat.fingerprint] = chat.encode_batch(prompts, completions)
            each.append(self._score_one(model, *encoded[chat.fingerprint]))
        each_MN = np.stack(each)
        spread_N = each_MN.std(axis=0, ddof=1) if len(each) > 1 else np.zeros(each_MN.shape[1])
        return Scores(each_MN.mean(axis=0), spread_N, each_MN)

    def score_ids(self, prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Rewards (M, N) of answers that are tokens already."""
        return np.stack([self._score_one(model, prompt_ids, completion_ids) for model in self.models])

    @torch.inference_mode()
    def _score_one(
        self, model: RewardModel, prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[int]]
    ) -> np.ndarray:
        lengths_N = np.array([len(p) + len(c) for p, c in zip(prompt_ids, completion_ids, strict=True)], dtype=np.int64)
        context = context_length(model.backbone.config)
        if len(lengths_N) and lengths_N.max() > context:
            raise ModelError(
                f"answer {lengths_N.argmax()} has {lengths_N.max()} tokens with its prompt, but the reward model takes "
                f"{context}: shorten it or leave it out"
            )
        rewards_N = np.zeros(len(lengths_N))
        for rows in micro_batches(lengths_N.tolist(), self.batch_tokens, padded=not self.layout.pack):
            prompts = [np.asarray(prompt_ids[i], dtype=np.int64) for i in rows]
            answers = [[np.asarray(completion_ids[i], dtype=np.int64)] for i in rows]
            batch = lay_out(prompts, answers, self.layout).to(self.device)
            rewards_N[rows] = model(batch.last_C, **batch.model_inputs()).cpu().numpy()
        return rewards_N
