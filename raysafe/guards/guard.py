"""What every guard speaks: the Exchange that travels, the Stage it is at, and the Verdict that a guard adds to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

Stage = Literal["input", "output", "tool_call"]
Action = Literal["allow", "modify", "hold", "block"]
Category = Literal["policy", "length", "rate", "capability", "budget", "error"]
Endpoint = Literal["chat", "completions", "embeddings", "predict", "act"]
Scale = Literal["probabilities", "values"]
ACT = "act"
"""The tool that each of a policy's moves is a call of, with the argument `action`."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that a model wants to call; `arguments` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that a client offers; `definition` is JSON text: name, description and the schema of its arguments."""

    name: str
    definition: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat; `content` is plain text. A tool's answer names the call that it answers."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one guard says at one stage.

    `score` runs from 0 (nothing against the text) to 1. `replacement` holds, for `modify`, one text for each of the
    stage's texts. A guard whose verdict is anything else has failed. `error` is set where the guard failed or ran too
    long: such a verdict never reads as passed, even where `on_error: open` let the text through. `shadow` is what a
    guard in shadow mode would have done; its action is then allow, for it changes nothing.
    """

    guard: str
    stage: Stage
    action: Action
    reason: str = ""
    score: float = 0.0
    category: Category = "policy"
    replacement: tuple[str, ...] | None = None
    retry_after_s: float | None = None
    error: str | None = None
    elapsed_s: float = 0.0
    shadow: Action | None = None

    @property
    def stops(self) -> bool:
        return self.action in ("block", "hold")

    def timed(self, elapsed_s: float) -> Verdict:
        """The verdict with the time that its guard took (dataclasses.replace takes four times as long)."""
        return Verdict(
            self.guard,
            self.stage,
            self.action,
            self.reason,
            self.score,
            self.category,
            self.replacement,
            self.retry_after_s,
            self.error,
            elapsed_s,
            self.shadow,
        )

    def passing(self, released: dict[str, str]) -> Verdict:
        """The verdict, or, where it is a hold that a reviewer has let pass, one that says so."""
        if self.action != "hold" or f"{self.stage}/{self.guard}" not in released:
            return self
        reason = f"held, and released by {released[f'{self.stage}/{self.guard}']}"
        return Verdict(self.guard, self.stage, "allow", reason, self.score, self.category, elapsed_s=self.elapsed_s)

    def as_shadow(self) -> Verdict:
        """The verdict of a guard in shadow mode: it says what it would have done, and does nothing."""
        return Verdict(
            self.guard,
            self.stage,
            "allow",
            self.reason,
            self.score,
            self.category,
            error=self.error,
            elapsed_s=self.elapsed_s,
            shadow=self.action,
        )

    def record(self) -> dict[str, Any]:
        """The verdict as an audit row shows it: no text of the exchange in it."""
        shown: dict[str, Any] = {"guard": self.guard, "action": self.action, "score": self.score}
        if self.reason:
            shown |= {"reason": self.reason, "category": self.category}
        if self.error:
            shown["error"] = self.error
        if self.shadow:
            shown["shadow"] = self.shadow
        return shown


@dataclass(slots=True)
class Exchange:
    """One request on its way to an answer. Each stop adds to `output` and `verdicts`; none rewrites what is there.

    `output` is the model's whole answer, and `tool_calls` what it wants to call: they are set once the answer has ended
    or been stopped, not while it streams.
    """

    request_id: str
    key_id: str
    model: str
    messages: tuple[Message, ...]
    max_tokens: int | None = None
    output: str = ""
    verdicts: list[Verdict] = field(default_factory=list)
    tenant: str = "default"
    endpoint: Endpoint = "chat"
    tools: tuple[Tool, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    asked: Any = None
    """The capabilities that the client asks for, where it asks for less than it could have."""
    state: dict[str, Any] = field(default_factory=dict, repr=False)
    """What a guard remembers of this exchange from one stage to the next, by the guard's name; never recorded."""
    trace: str | None = None
    """The request's id to others: its client, or a proxy before the gateway."""
    released: dict[str, str] = field(default_factory=dict)
    """Holds that a reviewer has let pass: stage/guard -> reviewer."""
    scores: tuple[tuple[float, ...], ...] = ()
    """What a policy gave each of its discrete actions, a row a move: guards of actions may choose by it."""
    scale: Scale = "probabilities"
    """What the scores are."""
    release: str | None = None
    """The hold whose release this request comes with; it is used up where the request is admitted."""

    def texts(self, stage: Stage) -> tuple[str, ...]:
        """The stage's texts as they stand after the modifications so far.

        input: the messages' contents, the names of calls in them, the calls' arguments, the tools' definitions. output:
        the answer. tool_call: the arguments of each call.
        """
        for verdict in reversed(self.verdicts):
            if verdict.stage == stage and verdict.replacement is not None:
                return verdict.replacement
        return self.received(stage)

    def received(self, stage: Stage) -> tuple[str, ...]:
        """The stage's texts as they came, whatever guards made of them since."""
        if stage == "output":
            return (self.output,)
        if stage == "tool_call":
            return tuple(call.arguments for call in self.tool_calls)
        contents = [message.content for message in self.messages]
        calls = [call for message in self.messages for call in message.tool_calls]
        names, arguments = [call.name for call in calls], [call.arguments for call in calls]
        return (*contents, *names, *arguments, *(tool.definition for tool in self.tools))

    def plain(self, stage: Stage) -> int:
        """How many of the stage's texts, the first ones, are plain text; the others are JSON."""
        if stage == "input":
            return sum(1 + len(message.tool_calls) for message in self.messages)
        return 1 if stage == "output" else 0

    def admitted(self) -> tuple[Message, ...]:
        """The messages that the model may see: the client's, as the input guards left them."""
        texts = self.texts("input")
        count, plain = len(self.messages), self.plain("input")
        names, arguments = iter(texts[count:plain]), iter(texts[plain:])
        return tuple(
            replace(message, content=content, tool_calls=_rewritten(message.tool_calls, names, arguments))
            for message, content in zip(self.messages, texts[:count], strict=True)
        )

    def admitted_tools(self) -> tuple[Tool, ...]:
        """The tools that the model may see, as the input guards left their definitions."""
        if not self.tools:
            return ()
        texts = self.texts("input")[-len(self.tools) :]
        return tuple(replace(tool, definition=text) for tool, text in zip(self.tools, texts, strict=True))

    def cleared_calls(self) -> tuple[ToolCall, ...]:
        """The calls that may leave, as the guards left their arguments."""
        return _rewritten(self.tool_calls, (call.name for call in self.tool_calls), iter(self.texts("tool_call")))


def _rewritten(calls: tuple[ToolCall, ...], names: Iterator[str], arguments: Iterator[str]) -> tuple[ToolCall, ...]:
    return tuple(replace(call, name=next(names), arguments=next(arguments)) for call in calls)


@runtime_checkable
class Guard(Protocol):
    """A check of an exchange at one of its `stages`. One of the stage output is asked about the arguments of tool calls
    too (stage tool_call), for they are the model's text as well.

    `inline` promises work linear in the text and no waiting, so that it may run on the gateway's event loop; any other
    guard runs in a thread, where its timeout cuts it off.
    """

    name: str
    stages: frozenset[Stage]
    inline: bool

    def check(self, exchange: Exchange, stage: Stage) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Step:
    """What an output filter lets go: `text` to pass on, the verdict once it has one to give, and `settled`, how many
    characters of all that it was fed are behind the text passed on so far."""

    text: str
    settled: int
    verdict: Verdict | None = None


class OutputFilter(Protocol):
    """A guard's view of one streamed answer: text in, text that the guard has cleared out."""

    def feed(self, text: str) -> Step:
        """More of the answer; the step's verdict is set only where the filter stops the stream."""
        ...

    def finish(self) -> Step:
        """The answer has ended: the rest of the text, and always a verdict."""
        ...


@runtime_checkable
class StreamingGuard(Guard, Protocol):
    """A guard that can clear an answer piece by piece; any other guard makes the gate hold the answer to its end."""

    def open(self, exchange: Exchange) -> OutputFilter: ...
