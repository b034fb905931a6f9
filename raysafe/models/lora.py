"""Low-rank adapters (Hu et al. 2021), by peft: train a small share of the weights, save a whole model."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from raysafe.errors import ModelError
from raysafe.models.lora_config import LoraConfig

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def apply_lora(model: PreTrainedModel, config: LoraConfig) -> nn.Module:
    """The model with adapters in it: they alone are trained, and at first they change nothing."""
    peft = _peft()
    check_targets(model, config)
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.targets) or "all-linear",
        task_type="CAUSAL_LM",
    )
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            return peft.get_peft_model(model, settings)
    except ValueError as error:
        targets = ", ".join(config.targets) or "the linear layers"
        raise _refusal(model, targets, str(error).splitlines()[0][:120]) from error


def adapt_layers(module: nn.Module, config: LoraConfig, layers: Collection[str]) -> nn.Module:
    """The same module with adapters in its linear and convolutional layers of these full names; they alone are trained.

    For modules that are no language models; `without_adapters` adds them into the weights. Raises ModelError for a
    target that none of the layers is called.
    """
    peft = _peft()
    last = {name.rsplit(".", 1)[-1] for name in layers}
    if strange := sorted(set(config.targets) - last):
        raise ModelError(
            f"there is no layer {strange[0]} to put adapters on: choose lora.targets among {_listed(last)}"
        )
    chosen = [name for name in layers if not config.targets or name.rsplit(".", 1)[-1] in config.targets]
    settings = peft.LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=chosen
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return peft.inject_adapter_in_model(settings, module)


def without_adapters(module: nn.Module) -> nn.Module:
    """A copy of a module of `adapt_layers` whose layers are plain again, the adapters added into their weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    plain = copy.deepcopy(module)
    for name, part in list(plain.named_modules()):
        if isinstance(part, BaseTunerLayer):
            part.merge()
            plain.set_submodule(name, part.get_base_layer())
    return plain


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))


def check_targets(model: PreTrainedModel, config: LoraConfig) -> None:
    """Raise ModelError for a target that the model hasn't, or that is an embedding; weights may be on `meta`.

    An adapter on an embedding is no W + B A of a linear layer, and where embedding and head share their weights, adding
    one's adapter in would change the other too.
    """
    shared = _shared_head(model)
    for target in config.targets:
        parts = [part for name, part in model.named_modules() if f".{name}".endswith(f".{target}")]
        if not parts:
            raise _refusal(model, target, "there is no such layer")
        if any(isinstance(part, torch.nn.Embedding) for part in parts):
            raise _refusal(model, target, "an embedding, not a linear layer")
        if any(part is shared for part in parts):
            raise _refusal(model, target, "it shares its weights with the embedding")


def _shared_head(model: PreTrainedModel) -> nn.Module | None:
    """The head, where it is the embedding as well."""
    return model.get_output_embeddings() if getattr(model.config, "tie_word_embeddings", False) else None


def _refusal(model: PreTrainedModel, targets: str, why: str) -> ModelError:
    shared, linear = _shared_head(model), torch.nn.Linear
    layers = {
        name.rsplit(".", 1)[-1]
        for name, part in model.named_modules()
        if isinstance(part, linear) and part is not shared
    }
    return ModelError(
        f"can't put adapters on {targets} of {type(model).__name__} ({why}): "
        f"choose lora.targets among {', '.join(sorted(layers))}"
    )


def merge_lora(module: nn.Module) -> PreTrainedModel:
    """A copy of the model with the adapters added into its weights; `module` itself can be trained on."""
    if not hasattr(module, "merge_and_unload"):
        raise ModelError(f"{type(module).__name__} holds no adapters to merge")
    merged: Any = copy.deepcopy(module)
    return merged.merge_and_unload()


def transposed_layers(module: nn.Module) -> frozenset[str]:
    """Names of the layers with adapters that keep their weights as (in, out), as GPT-2's do."""
    return frozenset(name for name, part in module.named_modules() if getattr(part, "fan_in_fan_out", False))


def merged_weights(
    weights: Mapping[str, Tensor], config: LoraConfig, *, transposed: Collection[str] = ()
) -> dict[str, Tensor]:
    """The plain model's weights W + alpha / rank * B A, by its own names, from those of the model with adapters.

    transposed: see transposed_layers, of the same model.
    """
    merged = {}
    for name, tensor in weights.items():
        plain = name.removeprefix("base_model.model.")
        if ".lora_" in plain:
            continue
        stem = name.removesuffix(".base_layer.weight")
        if stem != name:
            down, up = weights[f"{stem}.lora_A.default.weight"], weights[f"{stem}.lora_B.default.weight"]
            added = (config.alpha / config.rank) * (up @ down)
            tensor = tensor + (added.T if stem in transposed else added)
        merged[plain.replace(".base_layer.", ".")] = tensor
    return merged


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise ModelError("low-rank adapters need peft: run `pip install raysafe[lora]`, or leave lora out") from None
    return peft
