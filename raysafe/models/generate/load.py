"""Making an engine: transformers for any device, vLLM where its extra is installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch

from raysafe.models.generate.engine import Engine
from raysafe.models.language import check_tokenizer, load_policy, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from raysafe.models.generate.transformers_engine import TransformersEngine

EngineKind = Literal["transformers", "vllm"]
EngineDtype = Literal["float32", "bfloat16", "float64"]


@overload
def load_engine(
    model: str | Path,
    kind: Literal["transformers"] = "transformers",
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    device: str = "cpu",
    dtype: EngineDtype = "float32",
    **options: Any,
) -> TransformersEngine: ...


@overload
def load_engine(
    model: str | Path,
    kind: EngineKind,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    device: str = "cpu",
    dtype: EngineDtype = "float32",
    **options: Any,
) -> Engine: ...


def load_engine(
    model: str | Path,
    kind: EngineKind = "transformers",
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    device: str = "cpu",
    dtype: EngineDtype = "float32",
    **options: Any,
) -> Engine:
    """An engine on a model's weights, held in `dtype` (vLLM has no float64: float32 there).

    tokenizer: the model's own by default; options: of the engine's class.

    Raises ModelError where model and tokenizer don't go together.
    """
    tokenizer = tokenizer or load_tokenizer(model)
    if kind == "vllm":
        from raysafe.models.generate.vllm_engine import VLLMEngine

        return VLLMEngine(model, tokenizer, dtype="bfloat16" if dtype == "bfloat16" else "float32", **options)
    from raysafe.models.generate.transformers_engine import TransformersEngine

    policy: Any = load_policy(model, dtype=getattr(torch, dtype))
    check_tokenizer(policy, tokenizer)
    return TransformersEngine(policy.to(device), tokenizer, **options)
