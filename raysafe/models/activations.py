"""Hidden states of texts after one block of a language model: of a prompt's tokens, or of those of an answer to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from raysafe.errors import ModelError
from raysafe.models.chat import ChatFormat, Message
from raysafe.models.language import check_tokenizer, context_length, load_config, load_policy, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class _Read(Exception):
    """The state has been read: the blocks above it need not be computed."""


class ActivationReader:
    """One model, in eval mode and float32. Threads that share it wait for each other. `model` names it in errors."""

    def __init__(self, policy: PreTrainedModel, chat: ChatFormat, model: str, *, device: str = "cpu") -> None:
        """Raises ModelError where the model's blocks can't be found."""
        self.policy: PreTrainedModel = cast("Any", policy).to(device)
        self.chat, self.model = chat, model
        check_tokenizer(policy, chat.tokenizer)
        self.blocks = find_blocks(policy, model)
        self.hidden_size = int(policy.config.get_text_config().hidden_size)
        self.context = context_length(policy.config)
        self._longest_token = max(map(len, chat.tokenizer.get_vocab()))
        self._lock = threading.Lock()

    @classmethod
    def load(cls, model: str | Path, *, chat_template: str = "auto", device: str = "cpu") -> ActivationReader:
        """The reader of a folder, run, hub id or preset."""
        return cls(load_policy(model), ChatFormat(load_tokenizer(model), chat_template), str(model), device=device)

    @classmethod
    def untrained(cls, model: str | Path, seed: int, *, chat_template: str = "auto") -> ActivationReader:
        """The reader of a model of the same architecture and tokenizer with random weights."""
        from transformers import AutoModelForCausalLM

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            policy = AutoModelForCausalLM.from_config(load_config(model), dtype=torch.float32).eval()
        return cls(cast("Any", policy), ChatFormat(load_tokenizer(model), chat_template), f"untrained {model}")

    @torch.inference_mode()
    def states(self, prompt: Sequence[Message], answer: str | None, layer: int) -> np.ndarray:
        """(T, D), float64: after `layer` blocks, of the prompt's tokens, or of the answer's where there is one.

        Raises ModelError where the text is longer than the model's context: a part of it would go unread.
        """
        # tokenising what can't fit would cost time for nothing
        characters = sum(len(message["content"]) for message in prompt) + len(answer or "")
        if characters > self.context * self._longest_token:
            raise self._too_long(f"{characters} characters")
        prompt_ids, answer_ids = self.chat.encode(prompt, answer)
        ids = [*prompt_ids, *answer_ids]
        if len(ids) > self.context:
            raise self._too_long(f"{len(ids)} tokens")
        start = len(prompt_ids) if answer is not None else 0
        if len(ids) == start:
            raise ModelError("there are no tokens to read activations of: the text is empty")
        # hooks are the model's: those of two passes at a time would read each other's states
        with self._lock, self._reading(layer) as read, suppress(_Read):
            body = cast("Any", self.policy.base_model)
            body(input_ids=torch.tensor([ids], device=self.policy.device), use_cache=False)
        return read[0][0, start:].double().cpu().numpy()

    def _too_long(self, length: str) -> ModelError:
        return ModelError(
            f"a text of {length} exceeds the context of {self.model}, {self.context} tokens: limit it by a length guard"
        )

    @contextmanager
    def _reading(self, layer: int) -> Iterator[list[torch.Tensor]]:
        """Collects the residual stream after `layer` blocks of the forward pass inside, and ends the pass there."""
        if not 0 <= layer <= len(self.blocks):
            raise ModelError(f"layer must lie within 0 and {len(self.blocks)}, the blocks of {self.model}, got {layer}")
        read: list[torch.Tensor] = []

        def stop(state: Any) -> None:
            read.append(state)
            raise _Read

        def before(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            stop(args[0] if args else kwargs["hidden_states"])

        def after(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
            stop(output if isinstance(output, torch.Tensor) else output[0])

        # the last block's output by a hook behind it: what transformers calls the last hidden state is normalised
        if layer == len(self.blocks):
            handle = self.blocks[-1].register_forward_hook(after)
        else:
            handle = self.blocks[layer].register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield read
        finally:
            handle.remove()


def find_blocks(policy: PreTrainedModel, model: str) -> torch.nn.ModuleList:
    """A decoder's blocks in order: the outermost list of modules as long as its config says; raises ModelError."""
    count = policy.config.get_text_config().num_hidden_layers
    lists = {
        name: module
        for name, module in cast("Any", policy.base_model).named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    }
    outermost = min((name.count(".") for name in lists), default=0)
    found = [module for name, module in lists.items() if name.count(".") == outermost]
    if len(found) != 1:
        raise ModelError(
            f"can't tell which modules are the blocks of {model}, a {type(policy).__name__}: no activations can be read"
        )
    return found[0]
