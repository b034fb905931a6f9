"""The trusted model as a backend: it answers while an intervention degrades the service, behind the same guards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from raysafe.control.trusted import TrustedModel
from raysafe.errors import RaySafeError
from raysafe.serving.backend import Completion, ModelFailed, Piece, Prompt, WritesOnly


class TrustedBackend(WritesOnly):
    """Writes, and calls no tools. Its tokens aren't known: bytes stand for them, of which there are never fewer."""

    def __init__(self, trusted: TrustedModel) -> None:
        self._trusted = trusted

    async def complete(self, prompt: Prompt) -> Completion:
        try:
            text = await asyncio.to_thread(self._trusted.reply, prompt.messages, prompt.max_tokens)
        except RaySafeError as error:
            raise ModelFailed(f"the trusted model: {type(error).__name__}") from error
        asked = sum(_bytes(message.content) for message in prompt.messages)
        return Completion(text, asked, _bytes(text))

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        answer = await self.complete(prompt)
        yield Piece(answer.text, answer.prompt_tokens, answer.completion_tokens, "stop")


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
