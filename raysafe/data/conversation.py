"""Conversations as text or messages, brought to one form: messages up to the answer, and the answer.

Text in Anthropic's form, "\\n\\nHuman: …\\n\\nAssistant: …", is recognised; any other text is one user's message.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

Messages = list[dict[str, str]]
MESSAGES = pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}))
ROLES = ("system", "user", "assistant")
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLE_OF = {"Human": "user", "Assistant": "assistant"}


class BadValue(ValueError):
    """Why one row can't be used."""


def parse_prompt(value: Any, name: str) -> Messages:
    """Messages that end in a user's turn (or a system message alone); raises BadValue."""
    messages = _messages(value, name)
    if messages[-1]["role"] == "assistant":
        # Anthropic's prompts end in "Assistant:", which asks for the answer
        if not messages[-1]["content"]:
            messages = messages[:-1]
        else:
            raise BadValue(f"{name} must end with a user's message, ends with the assistant's")
    return _checked(messages, name)


def parse_whole(value: Any, name: str) -> tuple[Messages, str]:
    """A conversation that ends in the assistant's answer, as the messages before it and the answer."""
    if isinstance(value, str) and not is_turns(value):
        raise BadValue(f"{name} is plain text and there is no field 'prompt'")
    messages = _messages(value, name)
    if messages[-1]["role"] != "assistant":
        raise BadValue(f"{name} must end with the assistant's answer, ends with the {messages[-1]['role']}'s message")
    if len(messages) == 1:
        raise BadValue(f"{name} has an answer but nothing that it answers")
    return _checked(messages[:-1], name), _answer(messages[-1]["content"], name)


def parse_answer(value: Any, prompt: Messages, name: str) -> str:
    """The answer in a text, a list with the assistant's message, or a whole conversation that begins with `prompt`."""
    if isinstance(value, str) and not is_turns(value):
        return _answer(value, name)
    messages = _messages(value, name)
    if len(messages) == 1 and messages[0]["role"] == "assistant":
        return _answer(messages[0]["content"], name)
    before, answer = parse_whole(value, name)
    if before != prompt:
        raise BadValue(f"{name} doesn't begin with the prompt")
    return answer


def is_turns(text: str) -> bool:
    """Whether a text begins in Anthropic's form."""
    return text.lstrip().startswith(("Human:", "Assistant:"))


def _messages(value: Any, name: str) -> Messages:
    if isinstance(value, str):
        if not is_turns(value):
            if not value.strip():
                raise BadValue(f"{name} is empty")
            return [{"role": "user", "content": value.strip()}]
        parts = _TURN.split("\n\n" + value.lstrip())
        return [
            {"role": _ROLE_OF[role], "content": content.strip()}
            for role, content in zip(parts[1::2], parts[2::2], strict=True)
        ]
    if not isinstance(value, list):
        raise BadValue(f"{name} must be text or a list of messages, got a {type(value).__name__}")
    if not value:
        raise BadValue(f"{name} is empty")
    messages = []
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise BadValue(f"{name} must hold messages with a role and a text as content, found {str(message)[:60]}")
        if message.get("role") not in ROLES:
            raise BadValue(
                f"{name} has a message of role {str(message.get('role'))[:40]!r}; known roles: {', '.join(ROLES)}"
            )
        messages.append({"role": message["role"], "content": message["content"].strip()})
    return messages


def _checked(messages: Messages, name: str) -> Messages:
    for index, message in enumerate(messages):
        if not message["content"]:
            raise BadValue(f"{name} has an empty {message['role']} message (turn {index + 1})")
        if message["role"] == "system" and index:
            raise BadValue(f"{name} has a system message that isn't the first")
        if message["role"] == "assistant" and (not index or messages[index - 1]["role"] == "system"):
            raise BadValue(f"{name} has an assistant message before the user's first")
        if index and message["role"] == messages[index - 1]["role"]:
            raise BadValue(f"{name} has two {message['role']} messages in a row (turn {index + 1})")
    return messages


def _answer(text: str, name: str) -> str:
    if not text.strip():
        raise BadValue(f"{name} has an empty answer")
    return text.strip()
