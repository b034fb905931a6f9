"""A judge on a language model in this process: answers from the engine, choices by one forward pass a batch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np

from raysafe.judges.judge import Capabilities, Messages, check_choices, log_softmax


class LocalJudge:
    """Holds one loaded model. Calls from several tasks wait for each other: a model does one thing at a time."""

    def __init__(
        self, model: str, *, chat_template: str = "auto", batch_tokens: int = 8192, device: str = "cpu"
    ) -> None:
        """model: folder, run, hub id or preset. batch_tokens: tokens of a forward pass, padding included."""
        from raysafe.models.chat import ChatFormat
        from raysafe.models.generate.load import load_engine
        from raysafe.models.language import load_tokenizer

        self.name, self._batch_tokens = model, batch_tokens
        self.chat = ChatFormat(load_tokenizer(model), chat_template)
        self.engine = load_engine(model, tokenizer=self.chat.tokenizer, device=device, batch_tokens=batch_tokens)
        # some sixteen questions fill a forward pass of the default size
        self.capabilities = Capabilities(choice_logprobs=True, deterministic=True, batch=16)
        self._lock = threading.Lock()

    async def generate(
        self, prompts: Sequence[Messages], *, max_tokens: int = 16, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """One answer a prompt; raises ModelError where a prompt leaves no room for one."""
        return await asyncio.to_thread(self.generate_now, prompts, max_tokens, temperature, seed)

    async def choice_logprobs(self, prompts: Sequence[Messages], choices: Sequence[str]) -> np.ndarray:
        """log p(choice | prompt), (N, K), normalised over the choices."""
        return await asyncio.to_thread(self.choice_logprobs_now, prompts, choices)

    def generate_now(self, prompts: Sequence[Messages], max_tokens: int, temperature: float, seed: int) -> list[str]:
        """`generate`, in the calling thread."""
        from raysafe.models.generate.engine import SamplingParams

        sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed)
        with self._lock:
            (prompt_ids,) = self.chat.encode_batch(prompts)
            return [generation.text for generation in self.engine.generate(prompt_ids, sampling)]

    def choice_logprobs_now(self, prompts: Sequence[Messages], choices: Sequence[str]) -> np.ndarray:
        """`choice_logprobs`, in the calling thread.

        Where one choice begins another (1 and 10) each stands for the whole answer, with its end of turn.
        """
        from raysafe.models.generate.choices import choice_logprobs, telling_ids

        check_choices(choices)
        if not prompts:
            return np.zeros((0, len(choices)))
        with self._lock:
            prompt_ids, *columns = self.chat.encode_batch(prompts, *([choice] * len(prompts) for choice in choices))
            choice_ids = [telling_ids(row) for row in zip(*columns, strict=True)]
            logps_NK = choice_logprobs(self.engine.model, prompt_ids, choice_ids, batch_tokens=self._batch_tokens)
        return log_softmax(logps_NK)
