"""Tool calls in a language model's answer, told apart from its text while it is being written.

Two forms are read. Marked (Hermes, Qwen, SmolLM2): `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, anywhere in
the answer. Plain (Llama 3.1): an answer that is one JSON object of a name and `arguments` or `parameters`. In either
place a list of such objects is several calls. What has the form but calls a tool that wasn't offered stays text.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from raysafe.errors import ModelError
from raysafe.models.chat import ChatFormat

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_ARGUMENTS = ("arguments", "parameters")


class Call(NamedTuple):
    """A tool's name, and its arguments as the text of one JSON object."""

    name: str
    arguments: str


class CallReader:
    """Takes an answer in pieces. Text comes out as soon as it can be no part of a call; linear in the answer.

    White space between text and a call belongs to neither.
    """

    def __init__(self, offered: Collection[str]) -> None:
        """offered: names of the tools that may be called."""
        self._offered = frozenset(offered)
        self.calls: list[Call] = []
        # held back: white space before what may be a call, the beginning of an opening mark, and what looks like a
        # call, from its mark or first bracket on
        self._space: list[str] = []
        self._mark = ""
        self._candidate: list[str] = []
        self._tail = ""
        self._begun = self._called = False

    def feed(self, text: str) -> str:
        """More of the answer; what may be shown now."""
        shown: list[str] = []
        text, self._mark = self._mark + text, ""
        while text:
            text = self._go_on(text, shown) if self._candidate else self._look(text, shown)
        return "".join(shown)

    def close(self) -> str:
        """The answer has ended: the rest of its text. `calls` is complete."""
        shown: list[str] = []
        if self._candidate:
            # models may end their turn instead of closing the mark
            self._judge(shown)
        else:
            self._show(self._mark, shown)
        return "".join(shown)

    def _look(self, text: str, shown: list[str]) -> str:
        """Outside a candidate: what is left of `text` after the next one's beginning."""
        bare = text.lstrip()
        if self._called:
            text = bare
        if not (self._begun or self.calls) and bare[:1] in ("{", "["):
            self._space.append(text[: len(text) - len(bare)])
            self._candidate = [bare[0]]
            return bare[1:]
        at = text.find(OPEN)
        end = at if at >= 0 else len(text) - _begun_mark(text)
        body = text[:end].rstrip()
        if body:
            self._show(body, shown)
        self._space.append(text[len(body) : end])
        if at < 0:
            self._mark = text[end:]
            return ""
        self._candidate, self._tail = [OPEN], ""
        return text[at + len(OPEN) :]

    def _go_on(self, text: str, shown: list[str]) -> str:
        """Inside a candidate: what is left of `text` after its end. `tail`: where a closing mark may have begun."""
        ended = self._tail + text
        at = ended.find(CLOSE) if self._candidate[0] == OPEN else -1
        if at < 0:
            self._candidate.append(text)
            self._tail = ended[-(len(CLOSE) - 1) :]
            return ""
        used = at + len(CLOSE) - len(self._tail)
        self._candidate.append(text[:used])
        self._judge(shown)
        return text[used:]

    def _judge(self, shown: list[str]) -> None:
        """Keep the candidate's calls, or show it as the text that it is."""
        whole, self._candidate = "".join(self._candidate), []
        calls = parse_calls(whole.removeprefix(OPEN).removesuffix(CLOSE), self._offered)
        if not calls:
            self._show(whole, shown)
            return
        self.calls += calls
        self._space, self._called = [], True

    def _show(self, text: str, shown: list[str]) -> None:
        shown += [*self._space, text]
        self._space, self._called, self._begun = [], False, True


def _begun_mark(text: str) -> int:
    """Length of the longest end of `text` that begins an opening mark."""
    return next((n for n in range(min(len(OPEN) - 1, len(text)), 0, -1) if text.endswith(OPEN[:n])), 0)


def parse_calls(text: str, offered: Collection[str]) -> list[Call]:
    """The calls that a text is: a JSON object, or a list of them. None where it is anything else, as a whole."""
    try:
        found = json.loads(text, parse_constant=_no_constant)
        objects = found if isinstance(found, list) else [found]
        calls = [_call(one, offered) for one in objects]
    except (ValueError, RecursionError):
        return []
    return [call for call in calls if call is not None] if None not in calls else []


def _call(found: object, offered: Collection[str]) -> Call | None:
    if not isinstance(found, dict) or not isinstance(found.get("name"), str) or found["name"] not in offered:
        return None
    fields = [name for name in _ARGUMENTS if name in found]
    if len(fields) != 1 or set(found) - {"name", "id", "type", *fields}:
        return None
    arguments = found[fields[0]]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return Call(found["name"], checked_arguments(text))


def checked_arguments(text: str) -> str:
    """The text of one JSON object, written anew; raises ValueError or RecursionError where it is anything else.

    Whoever reads it later finds what was read here, of a key that came twice as well.
    """
    found = json.loads(text, parse_constant=_no_constant)
    if not isinstance(found, dict):
        raise ValueError("arguments must be a JSON object")
    text = json.dumps(found, ensure_ascii=False)
    text.encode()  # half a surrogate pair is no text
    return text


def tool_definition(text: str) -> dict[str, Any]:
    """A tool's definition from its JSON text; raises ModelError where it is no object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelError("a tool's definition is not a JSON object: a guard may have changed it")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def encode_with_tools(
    chat: ChatFormat, turns: Sequence[Mapping[str, Any]], definitions: Sequence[Mapping[str, Any]]
) -> list[int]:
    """Prompt ids of a conversation with tools. definitions: name, description and parameters of each.

    turns: role and content; `tool_calls`, a sequence of objects with id, name and the arguments' JSON text;
    `tool_call_id`. Raises ModelError where the chat template has no place for any of it, or arguments are no JSON.
    """
    used = {"tools"} if definitions else set()
    used |= {"tool_calls"} if any(turn.get("tool_calls") for turn in turns) else set()
    used |= {"tool"} if any(turn["role"] == "tool" for turn in turns) else set()
    if lacking := sorted(used - chat.names):
        raise ToolsUnsupported(f"this model's chat template knows nothing of {' or '.join(lacking)}: leave tools out")
    tools = [{"type": "function", "function": dict(definition)} for definition in definitions]
    try:
        return chat.encode_turns([_as_template_takes_it(turn) for turn in turns], tools)
    except RecursionError:
        raise ModelError("a tool's definition or a call's arguments are nested too deeply") from None


class ToolsUnsupported(ModelError):
    """The chat template has no place for tools."""


def _as_template_takes_it(turn: Mapping[str, Any]) -> dict[str, Any]:
    taken: dict[str, Any] = {"role": turn["role"], "content": turn["content"]}
    if turn.get("tool_calls"):
        taken["tool_calls"] = [
            {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": _object(one.arguments)}}
            for one in turn["tool_calls"]
        ]
    if turn.get("tool_call_id") is not None:
        taken["tool_call_id"] = turn["tool_call_id"]
    return taken


def _object(arguments: str) -> dict[str, Any]:
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelError("the arguments of a tool call in the messages are not a JSON object: send them as they came")
    return found
