"""From tokens to text while it is being written: whole characters only, and stop strings found as they complete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BROKEN = "\ufffd"
"""What a decoder writes for bytes that are no character, or not yet."""


class TextWriter:
    """Takes tokens one at a time; `text` is what may be shown of them, `stopped` whether a stop string was met."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._tokens: list[int] = []
        # decoding restarts at `_window`, a character's boundary a little way back: the first token of a decoded span
        # may lose its space, so what is new is what follows the text of the tokens before `_read`
        self._window = self._read = 0
        self._decoded = ""
        self._searched = 0
        self.text = ""
        self.stopped = False

    @property
    def count(self) -> int:
        """Tokens so far."""
        return len(self._tokens)

    def write(self, token: int) -> None:
        """Add one token."""
        self._tokens.append(token)
        known = self._decode(self._window, self._read)
        now = self._decode(self._window, len(self._tokens))
        if now.endswith(_BROKEN) or len(now) <= len(known):
            return
        self._window, self._read = self._read, len(self._tokens)
        self._add(now[len(known) :])

    def close(self) -> None:
        """No more tokens: show what was held back, broken characters and all."""
        if self.stopped:
            return
        known = self._decode(self._window, self._read)
        self._add(self._decode(self._window, len(self._tokens))[len(known) :])
        if not self.stopped:
            self.text = self._decoded

    def _add(self, piece: str) -> None:
        self._decoded += piece
        found = [at for at in (self._decoded.find(s, self._searched) for s in self._stop) if at >= 0]
        if found:
            self.text, self.stopped = self._decoded[: min(found)], True
            return
        safe = len(self._decoded) - _held_back(self._decoded, self._stop)
        self._searched = safe
        self.text = self._decoded[:safe]

    def _decode(self, start: int, end: int) -> str:
        return plain_text(self._tokenizer, self._tokens[start:end])


def plain_text(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """The text of tokens, special ones left out, exactly as it is spelt."""
    text = tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text


def _held_back(text: str, stop: Sequence[str]) -> int:
    """Length of the longest end of `text` that begins a stop string."""
    longest = 0
    for string in stop:
        for length in range(min(len(string) - 1, len(text)), longest, -1):
            if text.endswith(string[:length]):
                longest = length
                break
    return longest
