"""Batched generation on any transformers causal language model, with a key/value cache.

Prompts are sorted by length, so that a batch holds similar ones; decoding.py writes the answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from raysafe.errors import ModelError
from raysafe.models.chat import ChatFormat
from raysafe.models.generate.decoding import Decoding, Row
from raysafe.models.generate.engine import Cancelled, Generation, SamplingParams
from raysafe.models.generate.sampling import row_uniforms
from raysafe.models.generate.text import TextWriter
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
        batch_rows: int = 64,
        batch_tokens: int = 65536,
    ) -> None:
        """batch_rows and batch_tokens bound a batch: its answers, and their prompts and longest outcomes together."""
        self.model, self.tokenizer = model.eval(), tokenizer
        self.batch_rows, self.batch_tokens = batch_rows, batch_tokens
        self.context = context_length(model.config)
        self.stop_ids = _stop_ids(model, tokenizer)

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, cancelled: Cancelled | None = None
    ) -> list[Generation]:
        """`sampling.n` answers to each prompt, in the order of the prompts; raises ModelError for a prompt too long."""
        rows = self._rows(prompts, sampling, watch=bool(sampling.stop))
        for batch in self._batches(rows):
            if cancelled is not None and cancelled():
                break
            decoding = Decoding(self.model, batch, sampling, self.stop_ids)
            while decoding.live and not (cancelled is not None and cancelled()):
                decoding.step()
        return [row.generation(self.tokenizer) for row in rows]

    def stream(
        self, prompt: Sequence[int], sampling: SamplingParams, cancelled: Cancelled | None = None
    ) -> TransformersStream:
        """One answer, piece by piece; its text is that of `generate` with the same settings."""
        if sampling.n != 1:
            raise ModelError(f"a stream holds one answer: set n to 1, got {sampling.n}")
        (row,) = self._rows([prompt], sampling, watch=True)
        return TransformersStream(self, row, sampling, cancelled)

    def update_weights(self, weights: Mapping[str, Any]) -> None:
        """Copy tensors or arrays into the model; raises ModelError where names or shapes are another model's."""
        tensors = {name: torch.as_tensor(value) for name, value in weights.items()}
        try:
            report = self.model.load_state_dict(tensors, strict=False)
        except RuntimeError as error:
            raise ModelError(f"weights don't fit {type(self.model).__name__}: {str(error).splitlines()[-1]}") from None
        tied = set(getattr(self.model, "all_tied_weights_keys", None) or ())
        wrong = sorted(set(report.missing_keys) - tied) + sorted(report.unexpected_keys)
        if wrong:
            raise ModelError(f"weights don't fit {type(self.model).__name__}: {len(wrong)} names differ, as {wrong[0]}")

    def _rows(self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, *, watch: bool) -> list[Row]:
        seen: Counter[tuple[int, ...]] = Counter()
        rows = []
        for place, prompt in enumerate(prompts):
            ids = tuple(int(token) for token in prompt)
            if not ids:
                raise ModelError(f"prompt {place} is empty: begin it with the beginning-of-sequence token")
            if len(ids) >= self.context:
                raise ModelError(
                    f"prompt {place} has {len(ids)} tokens, the model takes {self.context} with the answer: shorten it"
                )
            limit = min(sampling.max_tokens, self.context - len(ids))
            for sample in range(sampling.n):
                uniforms = None
                if sampling.temperature > 0:
                    uniforms = row_uniforms(ids, limit, seed=sampling.seed, occurrence=seen[ids], sample=sample)
                rows.append(
                    Row(place, ids, limit, uniforms, TextWriter(self.tokenizer, sampling.stop) if watch else None)
                )
            seen[ids] += 1
        return rows

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


class TransformersStream:
    """Iterator over an answer's pieces. Dropping it ends generation; `generation` is set when the pieces end."""

    def __init__(
        self, engine: TransformersEngine, row: Row, sampling: SamplingParams, cancelled: Cancelled | None
    ) -> None:
        self.generation: Generation | None = None
        self._pieces = self._write(engine, row, sampling, cancelled)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def _write(
        self, engine: TransformersEngine, row: Row, sampling: SamplingParams, cancelled: Cancelled | None
    ) -> Iterator[str]:
        assert row.writer is not None
        shown = 0
        decoding: Decoding | None = None
        while row.finish is None and not (cancelled is not None and cancelled()):
            decoding = decoding or Decoding(engine.model, [row], sampling, engine.stop_ids)
            decoding.step()
            if len(row.writer.text) > shown:
                yield row.writer.text[shown:]
                shown = len(row.writer.text)
        self.generation = row.generation(engine.tokenizer)
        if len(self.generation.text) > shown:
            yield self.generation.text[shown:]


def _stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens that end an answer, by the model's own word, its tokenizer's and its chat template's."""
    named = getattr(model.generation_config, "eos_token_id", None)
    stops = set(named) if isinstance(named, list) else {named}
    stops.add(tokenizer.eos_token_id)
    if tokenizer.chat_template:
        stops |= set(ChatFormat(tokenizer).stop_ids)
    return frozenset(stop for stop in stops if isinstance(stop, int))
