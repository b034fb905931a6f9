"""The answers that a call asks for, as rows that an engine fills; what every engine does before and after that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

from raysafe.errors import ModelError
from raysafe.models.generate.engine import Cancelled, FinishReason, Generation, SamplingParams
from raysafe.models.generate.text import TextWriter, plain_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Row:
    """One answer in the making: what is asked for, what is written of it so far, and why it ended if it did."""

    def __init__(
        self,
        place: int,
        prompt: tuple[int, ...],
        sampling: SamplingParams,
        limit: int,
        occurrence: int,
        sample: int,
        writer: TextWriter | None,
    ) -> None:
        """place: of its prompt in the call. occurrence: how often the same prompt came before in it. sample: which of
        the prompt's `n` answers. limit: most tokens. writer: watches the text while it is written, where needed."""
        self.place, self.prompt, self.sampling, self.limit, self.writer = place, prompt, sampling, limit, writer
        self.occurrence, self.sample = occurrence, sample
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.finish: FinishReason | None = None
        self.ended = False
        """Whether the last token is one that ends an answer."""

    @property
    def longest(self) -> int:
        return len(self.prompt) + self.limit

    def generation(self, tokenizer: PreTrainedTokenizerBase) -> Generation:
        """The answer as it stands; unfinished means cancelled."""
        finish = self.finish or "cancelled"
        if self.writer is None:
            text = plain_text(tokenizer, self.tokens[:-1] if self.ended else self.tokens)
            return Generation(self.place, self.tokens, self.logprobs, text, finish)
        self.writer.close()
        # closing may complete a stop string with characters that were held back until now
        finish = "stop" if self.writer.stopped else finish
        return Generation(self.place, self.tokens, self.logprobs, self.writer.text, finish)


def make_rows(
    prompts: Sequence[Sequence[int]],
    sampling: SamplingParams,
    tokenizer: PreTrainedTokenizerBase,
    *,
    context: int,
    watch: bool,
) -> list[Row]:
    """`sampling.n` rows a prompt, in order; raises ModelError for a prompt that is empty or leaves no room.

    watch: give each row a writer, for its stop strings or for a stream.
    """
    seen: Counter[tuple[int, ...]] = Counter()
    rows = []
    for place, prompt in enumerate(prompts):
        ids = tuple(int(token) for token in prompt)
        if not ids:
            raise ModelError(f"prompt {place} is empty: begin it with the beginning-of-sequence token")
        if len(ids) >= context:
            raise ModelError(
                f"prompt {place} has {len(ids)} tokens, the model takes {context} with the answer: shorten it"
            )
        limit = min(sampling.max_tokens, context - len(ids))
        for sample in range(sampling.n):
            writer = TextWriter(tokenizer, sampling.stop) if watch else None
            rows.append(Row(place, ids, sampling, limit, seen[ids], sample, writer))
        seen[ids] += 1
    return rows


class Writing(Protocol):
    """Rows that are being filled."""

    @property
    def live(self) -> Sequence[Row]:
        """Those that haven't ended."""
        ...

    def step(self) -> None:
        """Write some more of the live rows."""
        ...

    def close(self) -> None:
        """Write no more; rows that are still live keep what was written of them."""
        ...


class RowStream:
    """Iterator over an answer's pieces. Dropping it ends generation; `generation` is set when the pieces end."""

    def __init__(
        self,
        row: Row,
        start: Callable[[], Writing],
        tokenizer: PreTrainedTokenizerBase,
        cancelled: Cancelled | None,
    ) -> None:
        """row: has a writer. start: begins to fill it, at the first piece that is asked for."""
        self.generation: Generation | None = None
        self._pieces = self._write(row, start, tokenizer, cancelled)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def _write(
        self,
        row: Row,
        start: Callable[[], Writing],
        tokenizer: PreTrainedTokenizerBase,
        cancelled: Cancelled | None,
    ) -> Iterator[str]:
        assert row.writer is not None
        shown = 0
        if not (cancelled is not None and cancelled()):
            with closing(start()) as writing:
                while writing.live and not (cancelled is not None and cancelled()):
                    writing.step()
                    if len(row.writer.text) > shown:
                        yield row.writer.text[shown:]
                        shown = len(row.writer.text)
        self.generation = row.generation(tokenizer)
        if len(self.generation.text) > shown:
            yield self.generation.text[shown:]


def check_stream(sampling: SamplingParams) -> None:
    """Raise ModelError where a stream is asked for more than one answer."""
    if sampling.n != 1:
        raise ModelError(f"a stream holds one answer: set n to 1, got {sampling.n}")
