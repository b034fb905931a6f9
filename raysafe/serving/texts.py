"""Texts that a model can be given."""

from __future__ import annotations

from collections.abc import Iterable

from raysafe.serving.backend import Prompt, PromptRefused


def check_texts(texts: Iterable[str]) -> None:
    """Raise PromptRefused for half a surrogate pair: JSON can write one, but it is no character, and no tokenizer
    takes it."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            message = f"a text holds half a surrogate pair (at character {error.start:,}), which is no character"
            raise PromptRefused(message, "invalid_messages") from None


def prompt_texts(prompt: Prompt) -> list[str]:
    """All that a prompt says: roles, contents, arguments of earlier calls, and definitions of tools."""
    spoken = [text for message in prompt.messages for text in (message.role, message.content)]
    arguments = [call.arguments for message in prompt.messages for call in message.tool_calls]
    return [*spoken, *arguments, *(tool.definition for tool in prompt.tools)]
