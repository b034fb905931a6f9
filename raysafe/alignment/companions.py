"""Whether the other models of an online job go with its policy, by configs and tokenizers alone."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM

from raysafe.alignment.rewards import Sees, ensemble_members
from raysafe.errors import ConfigError, ModelError
from raysafe.models.heads import is_reward_config
from raysafe.models.language import check_vocabulary, context_length, load_config, load_tokenizer
from raysafe.models.lora import LoraConfig, check_targets


def check_policy(model: str, field: str) -> None:
    """Raise ModelError where a reward model is given for a policy."""
    if is_reward_config(load_config(model)):
        raise ModelError(f"{field}: {model} is a reward model, not a policy: give the model that it scores")


def check_adapters(model: str, lora: LoraConfig) -> None:
    """Raise ModelError for lora.targets that the policy hasn't, or that can't take adapters."""
    with torch.device("meta"):
        check_targets(AutoModelForCausalLM.from_config(load_config(model)), lora)


def check_companion(role: str, model: str, tokenizer: str, longest: int) -> None:
    """Raise ConfigError where a critic or reference can't read the policy's tokens, or all of `longest` of them."""
    ours, theirs = load_tokenizer(tokenizer), load_tokenizer(model)
    if ours.get_vocab() != theirs.get_vocab():
        raise ConfigError(
            f"{role} {model} and the policy {tokenizer} have different tokenizers ({len(theirs)} and {len(ours)} "
            f"tokens): start the {role} from a model with the policy's tokenizer, or leave {role} out"
        )
    check_vocabulary(load_config(model), ours)
    _check_context(role, model, longest)


def check_reward_context(model: str, tokenizer: str, sees: Sees, *, longest: int, max_tokens: int) -> None:
    """Raise ConfigError where a reward model takes fewer tokens than what it is to read may have.

    One with another tokenizer reads another number of tokens, which only the answers themselves can tell.
    """
    ours = load_tokenizer(tokenizer).get_vocab()
    for folder in ensemble_members(model):
        if load_tokenizer(folder).get_vocab() == ours:
            if sees == "conversation":
                _check_context("reward model", folder, longest)
            else:
                _check_context("reward model", folder, max_tokens, "an answer", "max_tokens")


def _check_context(
    role: str, model: str, longest: int, what: str = "a prompt with its answer", field: str = "max_length"
) -> None:
    context = _context(model)
    if context is not None and context < longest:
        raise ConfigError(
            f"{role} {model} takes {context} tokens, but {what} may have {longest}: set {field} to {context} or less"
        )


def _context(model: str) -> int | None:
    """Longest sequence that a model takes; None where its config doesn't say."""
    try:
        return context_length(model)
    except ModelError:
        return None
