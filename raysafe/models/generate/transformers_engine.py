"""Batched generation on any transformers causal language model, with a key/value cache.

Prompts are sorted by length, so that a batch holds similar ones; decoding.py writes the answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from raysafe.errors import ModelError
from raysafe.models.chat import ChatFormat
from raysafe.models.generate.decoding import Decoding
from raysafe.models.generate.engine import Cancelled, Generation, SamplingParams
from raysafe.models.generate.joining import JoiningPool
from raysafe.models.generate.rows import Row, RowStream, check_stream, make_rows
from raysafe.models.language import context_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class TransformersEngine:
    """Engine on one model, where that model is: move it to its device first."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_rows: int = 256,
        batch_tokens: int = 65536,
    ) -> None:
        """batch_rows and batch_tokens bound a batch: its answers, and their prompts and longest outcomes together."""
        self.model, self.tokenizer = model.eval(), tokenizer
        self.batch_rows, self.batch_tokens = batch_rows, batch_tokens
        self.context = context_length(model.config)
        self.stop_ids = stop_ids(model.generation_config, tokenizer)

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, cancelled: Cancelled | None = None
    ) -> list[Generation]:
        """`sampling.n` answers to each prompt, in the order of the prompts; raises ModelError for a prompt too long."""
        rows = make_rows(prompts, sampling, self.tokenizer, context=self.context, watch=bool(sampling.stop))
        for batch in self._batches(rows):
            if cancelled is not None and cancelled():
                break
            decoding = Decoding(self.model, batch, self.stop_ids)
            while decoding.live and not (cancelled is not None and cancelled()):
                decoding.step()
            decoding.close()
        return [row.generation(self.tokenizer) for row in rows]

    def stream(self, prompt: Sequence[int], sampling: SamplingParams, cancelled: Cancelled | None = None) -> RowStream:
        """One answer, piece by piece; its text is that of `generate` with the same settings."""
        check_stream(sampling)
        rows = make_rows([prompt], sampling, self.tokenizer, context=self.context, watch=True)
        start = partial(Decoding, self.model, rows, self.stop_ids)
        return RowStream(rows[0], start, self.tokenizer, cancelled)

    def pool(self, max_rows: int) -> JoiningPool:
        """Room for this many answers at a time, of any callers; the bound on tokens is the engine's own."""
        return JoiningPool(self.model, self.stop_ids, max_rows=max_rows, max_tokens=self.batch_tokens)

    def update_weights(self, weights: Mapping[str, Any]) -> None:
        """Copy tensors or arrays into the model; raises ModelError where names or shapes are another model's."""
        copy_weights(self.model, weights)

    def _batches(self, rows: list[Row]) -> Iterator[list[Row]]:
        batch: list[Row] = []
        for row in sorted(rows, key=lambda r: -len(r.prompt)):
            longest = max(r.longest for r in [*batch[:1], row])
            if batch and (len(batch) == self.batch_rows or (len(batch) + 1) * longest > self.batch_tokens):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch


def copy_weights(model: PreTrainedModel, weights: Mapping[str, Any]) -> None:
    """`update_weights` on any model, one on the meta device too: then the names and shapes are checked alone."""
    tensors = {name: torch.as_tensor(value) for name, value in weights.items()}
    try:
        report = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ModelError(f"weights don't fit {type(model).__name__}: {str(error).splitlines()[-1]}") from None
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    wrong = sorted(set(report.missing_keys) - tied) + sorted(report.unexpected_keys)
    if wrong:
        raise ModelError(f"weights don't fit {type(model).__name__}: {len(wrong)} names differ, as {wrong[0]}")


def stop_ids(generation_config: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens that end an answer, by the model's own word, its tokenizer's and its chat template's."""
    named = getattr(generation_config, "eos_token_id", None)
    stops = set(named) if isinstance(named, list) else {named}
    stops.add(tokenizer.eos_token_id)
    if tokenizer.chat_template:
        stops |= set(ChatFormat(tokenizer).stop_ids)
    return frozenset(stop for stop in stops if isinstance(stop, int))
