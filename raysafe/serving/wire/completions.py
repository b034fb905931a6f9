"""The OpenAI completions wire format: a prompt goes to the model as it is, with no chat template around it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from raysafe.guards.guard import Exchange, Message, Tool, ToolCall
from raysafe.serving.backend import Prompt
from raysafe.serving.wire.sampling import SampledRequest
from raysafe.serving.wire.text import FinishReason, Written, event, usage


class CompletionRequest(SampledRequest):
    """What `/v1/completions` takes: one prompt, as text. Token ids are refused, for guards read texts."""

    prompt: str
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    logprobs: None = None
    suffix: None = None
    max_tokens: int | None = Field(default=None, ge=1, le=1 << 31)

    @field_validator("prompt", mode="before")
    @classmethod
    def _one_text(cls, prompt: Any) -> Any:
        if isinstance(prompt, list):
            if len(prompt) == 1 and isinstance(prompt[0], str):
                return prompt[0]
            raise PydanticCustomError("prompt", "must be one text: send several prompts as requests of their own")
        return prompt

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens

    def spoken(self) -> tuple[Message, ...]:
        return (Message("user", self.prompt),)

    def offered(self) -> tuple[Tool, ...]:
        return ()

    def as_prompt(self, exchange: Exchange) -> Prompt:
        """The admitted text and how to sample."""
        return Prompt(
            exchange.admitted(), self.max_tokens, self.temperature, self.top_p, self.stop, self.seed, raw=True
        )


class CompletionFormat:
    """One answer as a text completion; a filtered one says why in `refusal`, which OpenAI's form has no field for."""

    def __init__(self, request_id: str, model: str) -> None:
        self._frame = {"id": request_id, "object": "text_completion", "created": int(time.time()), "model": model}

    def whole(self, answer: Written) -> dict[str, Any]:
        choice = self._choice(answer.text, answer.finish, answer.refusal)
        counts = usage(answer.prompt_tokens, answer.completion_tokens)
        return {**self._frame, "choices": [choice], "usage": counts}

    def text(self, text: str) -> bytes:
        return event({**self._frame, "choices": [self._choice(text, None)]})

    def calls(self, calls: Sequence[ToolCall]) -> bytes:
        raise AssertionError("no tools are offered to a plain completion")

    def end(self, finish: FinishReason, refusal: str | None = None) -> bytes:
        return event({**self._frame, "choices": [self._choice("", finish, refusal)]})

    def usage(self, prompt_tokens: int, completion_tokens: int) -> bytes:
        return event({**self._frame, "choices": [], "usage": usage(prompt_tokens, completion_tokens)})

    @staticmethod
    def _choice(text: str, finish: FinishReason | None, refusal: str | None = None) -> dict[str, Any]:
        said = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
        return said if refusal is None else {**said, "refusal": refusal}
