"""Conversations as tokens, after a model's own chat template.

The prompt is encoded alone, as it is when the model answers it, and the completion is what the template adds to that
for the answer. Texts can't forge turns: a special token's name inside a message is broken up before it is encoded.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, TemplateError

from raysafe.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, str]
"""`role` (system, user, assistant) and `content`."""

PLAIN = (
    "{{ bos_token or '' }}"
    "{% for message in messages %}"
    "{{ '\\n\\n' if not loop.first }}{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{{ eos_token or '' if message['role'] == 'assistant' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\n' if messages }}Assistant:{% endif %}"
)
"""`User: …`, an empty line, `Assistant: …` and the end-of-sequence token: for base models without a template."""

_BREAK = "\u200b"


class ChatFormat:
    """Encodes prompts and answers. `tokenizer` carries the template in use, so that a saved model has it too."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str = "auto") -> None:
        """template: `auto` (the tokenizer's own), `plain`, or the path of a Jinja file; raises ModelError."""
        self.tokenizer = copy.copy(tokenizer)
        self.template = _find_template(tokenizer, template)
        self.tokenizer.chat_template = self.template
        added = tokenizer.added_tokens_decoder.values()
        marks = {str(token) for token in added if token.special or str(token) in self.template}
        longest_first = sorted((mark for mark in marks if len(mark.strip()) > 1), key=len, reverse=True)
        self._marks = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def encode(self, messages: Sequence[Message], completion: str | None = None) -> tuple[list[int], list[int]]:
        """Prompt ids and completion ids; the completion ends as the template ends a turn.

        With no messages the completion is encoded as a bare text: the beginning-of-sequence token where the tokenizer
        has one, the text, the end-of-sequence token.
        """
        if completion is None:
            return self.encode_batch([messages])[0][0], []
        prompts, completions = self.encode_batch([messages], [completion])
        return prompts[0], completions[0]

    def encode_turns(self, turns: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """Prompt ids of turns that may hold tool calls and tools' answers, after the definitions of tools.

        Both as transformers' templates take them. Texts at any depth can forge no turns. Raises ModelError where the
        template refuses them; one that leaves tools out says nothing: see `names`.
        """
        return self._tokenise([self._apply(self._defused_deep(list(turns)), self._defused_deep(list(tools)))])[0]

    def encode_text(self, text: str) -> list[int]:
        """Ids of a text to go on from, with no template around it, and the tokens that the tokenizer itself puts before
        one. Special tokens' names in it are broken up all the same."""
        ids: list[int] = self.tokenizer(self._defused(text), verbose=False)["input_ids"]
        # a text that goes on has no end
        return ids[:-1] if ids and ids[-1] == self.tokenizer.eos_token_id else ids

    @cached_property
    def names(self) -> frozenset[str]:
        """Variables, attributes and literal keys that the template mentions, such as `tools` and `tool_calls`."""
        try:
            parts = list(Environment().lex(self.template))
        except TemplateError as error:
            raise ModelError(f"the chat template is no Jinja template: {error}") from None
        return frozenset(text.strip("'\"") for _, kind, text in parts if kind in ("name", "string"))

    def encode_batch(
        self, prompts: Sequence[Sequence[Message]], *completions: Sequence[str]
    ) -> tuple[list[list[int]], ...]:
        """A column of prompt ids, then one column of completion ids for each column of completions given.

        A row's prompt ids plus completion ids are the tokens of the template's rendering of the whole conversation,
        less what the template writes after the end-of-turn token. Where the tokenizer would merge the prompt's last
        characters with the answer's first into one token, the two are encoded apart, as they are when generating.
        """
        prompt_texts = [self._render(messages, answer=None) for messages in prompts]
        prompt_ids = self._tokenise(prompt_texts)
        columns = [prompt_ids]
        for column in completions:
            whole_texts = [
                self._render(messages, answer=answer) for messages, answer in zip(prompts, column, strict=True)
            ]
            rows = zip(prompt_texts, whole_texts, prompt_ids, self._tokenise(whole_texts), strict=True)
            columns.append([self._completion(*row) for row in rows])
        return tuple(columns)

    @property
    def fingerprint(self) -> str:
        """sha256 of what decides the tokens: vocabulary, merges, special tokens and the template."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        state = (
            json.loads(backend.to_str()) if backend is not None else dict(sorted(self.tokenizer.get_vocab().items()))
        )
        # how the last call padded or cut is not part of the tokenizer
        state.pop("padding", None)
        state.pop("truncation", None)
        identity = [type(self.tokenizer).__name__, state, self.tokenizer.special_tokens_map, self.template]
        return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer: the end-of-sequence token and the template's end of an assistant's turn."""
        _, completion = self.encode([{"role": "user", "content": "a"}], "b")
        stops = {completion[-1]} & set(self.tokenizer.added_tokens_decoder)
        if isinstance(self.tokenizer.eos_token_id, int):
            stops.add(self.tokenizer.eos_token_id)
        return tuple(sorted(stops))

    def _render(self, messages: Sequence[Message], *, answer: str | None) -> str:
        if not messages:
            if answer is None:
                return ""
            bos, eos = self.tokenizer.bos_token or "", self.tokenizer.eos_token or ""
            return f"{bos}{self._defused(answer)}{eos}"
        turns = [{"role": m["role"], "content": self._defused(m["content"])} for m in messages]
        if answer is not None:
            turns.append({"role": "assistant", "content": self._defused(answer)})
        text = self._apply(turns, None, open_turn=answer is None)
        # what follows the end-of-turn token is the template's glue to a next turn, which no answer ever reaches
        return text if answer is None else _without_glue(text, self._marks)

    def _apply(self, turns: list[Any], tools: list[Any] | None, *, open_turn: bool = True) -> str:
        try:
            text = self.tokenizer.apply_chat_template(
                turns,
                tools=tools or None,
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=open_turn,
            )
        except (
            TemplateError,
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            # a template is the model's own program, and may trip over what it wasn't made for
            roles = ", ".join(m["role"] for m in turns)
            raise ModelError(f"the chat template refuses a conversation of {roles}: {error}") from None
        assert isinstance(text, str)
        return text

    def _defused_deep(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._defused(value)
        if isinstance(value, Mapping):
            return {self._defused(key): self._defused_deep(inner) for key, inner in value.items()}
        return [self._defused_deep(inner) for inner in value] if isinstance(value, list | tuple) else value

    def _defused(self, text: str) -> str:
        if self._marks is None:
            return text
        return self._marks.sub(lambda found: found[0][0] + _BREAK + found[0][1:], text)

    def _tokenise(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]

    def _completion(self, prompt_text: str, whole_text: str, prompt_ids: list[int], whole_ids: list[int]) -> list[int]:
        if not whole_text.startswith(prompt_text):
            raise ModelError(
                "the chat template renders a prompt differently once its answer follows "
                f"(prompt ends {prompt_text[-40:]!r}); set chat_template to 'plain' or to a Jinja file that doesn't"
            )
        if whole_ids[: len(prompt_ids)] == prompt_ids:
            return whole_ids[len(prompt_ids) :]
        apart = self._tokenise([whole_text[len(prompt_text) :]])[0]
        if self.tokenizer.decode(prompt_ids + apart) != self.tokenizer.decode(whole_ids):
            raise ModelError(
                f"the tokenizer can't encode an answer apart from its prompt (ending {prompt_text[-40:]!r}); "
                "set chat_template to one whose generation prompt ends in a special token or a line break"
            )
        return apart


def _find_template(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    if template == "plain":
        return PLAIN
    if template == "auto":
        own = tokenizer.chat_template
        own = own.get("default") if isinstance(own, dict) else own
        if not own:
            raise ModelError(
                "the tokenizer has no chat template: set chat_template to 'plain' or to the path of a Jinja file"
            )
        return own
    try:
        return Path(template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"can't read chat_template '{template}' ({error}): give 'auto', 'plain' or the path of a Jinja file"
        ) from None


def _without_glue(text: str, marks: re.Pattern[str] | None) -> str:
    """`text` less white space that follows a special token at its end."""
    kept = text.rstrip()
    ends = [found.end() for found in marks.finditer(kept)] if marks else []
    return kept if ends and ends[-1] == len(kept) else text
