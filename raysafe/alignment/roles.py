"""The roles of online training, each a component that a process of an actor group hosts.

policy and critic are trained (trainer.py); rollout writes answers; reference and reward score them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from raysafe.alignment.experience import answer_lengths, collate, plan, token_places
from raysafe.alignment.job import load_packable
from raysafe.alignment.rewards import EnsembleOptions, Rewards
from raysafe.alignment.trainer import OnlineLearner, OnlineTrainer
from raysafe.models.chat import ChatFormat
from raysafe.models.generate.engine import SamplingParams
from raysafe.models.generate.load import EngineKind, load_engine
from raysafe.models.generate.transformers_engine import TransformersEngine
from raysafe.models.language import load_tokenizer
from raysafe.models.logprobs import token_logprobs
from raysafe.models.packing import Layout
from raysafe.runtime.learner import OptimConfig, Precision
from raysafe.runtime.parallel import autocast, compute_dtype
from raysafe.runtime.storage import Folder
from raysafe.runtime.weights import VersionedEngine, WeightVersion

if TYPE_CHECKING:
    from raysafe.runtime.member import Member


@dataclass(frozen=True)
class Written:
    """Answers of one call of a rollout engine, in the order of its prompts, `n` each."""

    tokens_N: np.ndarray
    lengths_C: np.ndarray
    logps_N: np.ndarray
    texts: list[str]
    complete_C: np.ndarray
    version: int


class Rollout:
    """Writes answers with the weights of one version."""

    def __init__(
        self,
        model: str,
        tokenizer: str,
        chat_template: str,
        kind: EngineKind,
        precision: Precision,
        device: str,
        rank: int = 0,
    ) -> None:
        chat = ChatFormat(load_tokenizer(tokenizer), chat_template)
        # the trainer's own arithmetic, so that both find the same log-probabilities
        dtype = engine_dtype(precision, torch.device(device))
        self.engine = load_engine(model, kind, tokenizer=chat.tokenizer, device=device, dtype=dtype)
        self.device = device
        self.versioned = VersionedEngine(self.engine, rank=rank)

    def load(self, published: WeightVersion) -> int:
        """Take weights over; returns their version."""
        return self.versioned.load(published)

    def generate(self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, version: int) -> Written:
        """Raises StaleWeights where the engine holds another version than the one that is asked for."""
        self.versioned.require(version)
        answers = self.engine.generate(prompts, sampling)
        return Written(
            tokens_N=np.concatenate([np.asarray(a.tokens, dtype=np.int32) for a in answers]),
            lengths_C=np.array([len(a.tokens) for a in answers], dtype=np.int64),
            logps_N=np.concatenate([np.asarray(a.logprobs, dtype=np.float64) for a in answers]),
            texts=[a.text for a in answers],
            complete_C=np.array([a.finish_reason == "stop" for a in answers]),
            version=version,
        )

    def offload(self) -> None:
        """Make room on the GPU; vLLM keeps its own."""
        if isinstance(self.engine, TransformersEngine):
            cast("nn.Module", self.engine.model).to("cpu")

    def onload(self) -> None:
        if isinstance(self.engine, TransformersEngine):
            cast("nn.Module", self.engine.model).to(self.device)


def engine_dtype(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16", "float64"]:
    """What an engine holds its weights in when the trainer computes in `precision`."""
    names: dict[torch.dtype, Literal["float32", "bfloat16", "float64"]] = {
        torch.bfloat16: "bfloat16",
        torch.float64: "float64",
    }
    return names.get(compute_dtype(precision, device), "float32")


class Reference:
    """A fixed policy's log-probabilities of tokens."""

    def __init__(self, model: str, layout: Layout, micro_tokens: int, precision: Precision, device: str) -> None:
        self.layout, self.micro_tokens = layout, micro_tokens
        self.device = torch.device(device)
        self.dtype = compute_dtype(precision, self.device)
        self.load(model)

    def load(self, model: str) -> None:
        """Take another model's weights, in place of those that are there."""
        policy = cast(nn.Module, load_packable(model, self.layout))
        wide = torch.float64 if self.dtype == torch.float64 else torch.float32
        self.policy = policy.to(self.device, wide).eval()

    def load_from(self, uri: str, name: str) -> None:
        """Take the weights of a model folder of a run."""
        with tempfile.TemporaryDirectory(prefix="raysafe-reference-") as folder:
            Folder(uri).download(name, folder)
            self.load(folder)

    def logps(self, rows: pa.Table) -> np.ndarray:
        """log p of every token of the rows' answers, end to end, (N,)."""
        lengths_R = answer_lengths(rows)
        logps_N = np.zeros(int(lengths_R.sum()))
        (micros,) = plan(rows, ranks=1, budget=self.micro_tokens, layout=self.layout)
        for micro in micros:
            batch = collate(rows.take(pa.array(micro)), self.layout).to(self.device)
            with torch.no_grad(), autocast(self.dtype, self.device):
                values = token_logprobs(self.policy, batch.tokens)
            logps_N[token_places(lengths_R, micro)] = values.double().cpu().numpy()
        return logps_N

    def offload(self) -> None:
        """Make room on the GPU."""
        self.policy.to("cpu")

    def onload(self) -> None:
        self.policy.to(self.device)


@dataclass(frozen=True)
class TrainerFactory:
    """Makes a trained role (policy or critic)."""

    learner: OnlineLearner
    config: OptimConfig
    seed: int

    def __call__(self, member: Member) -> OnlineTrainer:
        return OnlineTrainer(self.learner, self.config, seed=self.seed, rank=member.rank, device=member.device)


@dataclass(frozen=True)
class RolloutFactory:
    model: str
    tokenizer: str
    chat_template: str
    kind: EngineKind
    precision: Precision

    def __call__(self, member: Member) -> Rollout:
        return Rollout(
            self.model, self.tokenizer, self.chat_template, self.kind, self.precision, member.device, member.rank
        )


@dataclass(frozen=True)
class ReferenceFactory:
    model: str
    layout: Layout
    micro_tokens: int
    precision: Precision

    def __call__(self, member: Member) -> Reference:
        return Reference(self.model, self.layout, self.micro_tokens, self.precision, member.device)


@dataclass(frozen=True)
class RewardFactory:
    sources: dict[str, float]
    gold: str | None
    options: EnsembleOptions

    def __call__(self, member: Member) -> Rewards:
        return Rewards(self.sources, self.gold, self.options, member.device)
