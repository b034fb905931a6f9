"""A language model as a backend: prompts in, text and tool calls out, many at a time on one scheduler."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

from raysafe.errors import ModelError
from raysafe.guards.guard import ToolCall
from raysafe.models.generate.engine import Engine, Generation, SamplingParams
from raysafe.models.generate.scheduler import QueueFull, Scheduler, Update
from raysafe.models.tool_calls import CallReader, ToolsUnsupported, encode_with_tools, tool_definition
from raysafe.serving.backend import (
    Completion,
    Finish,
    ModelFailed,
    Overloaded,
    Piece,
    Prompt,
    PromptRefused,
    WritesOnly,
)
from raysafe.serving.texts import check_texts, prompt_texts

if TYPE_CHECKING:
    from raysafe.models.chat import ChatFormat
    from raysafe.serving.replicas import ReplicaSettings

logger = logging.getLogger(__name__)
_SEEDS = 1 << 62
_LONGEST_WAIT_S = 60.0


class Ready(NamedTuple):
    """A prompt as the engine takes it."""

    ids: list[int]
    sampling: SamplingParams
    offered: tuple[str, ...]


class Writer(WritesOnly):
    """A Backend over an engine."""

    def __init__(self, settings: ReplicaSettings, engine: Engine, chat: ChatFormat, context: int) -> None:
        self._settings, self._chat, self._context = settings, chat, context
        self.engine = engine
        self._scheduler = Scheduler(
            engine.pool(settings.max_batch), chat.tokenizer, context=context, max_waiting=settings.max_waiting
        )

    async def complete(self, prompt: Prompt) -> Completion:
        ready = await asyncio.to_thread(self._prepare, prompt)
        async with aclosing(self._updates(ready, stream=False)) as updates:
            end = (await anext(updates)).end
        assert isinstance(end, Generation)
        reader = _reader(ready)
        text = reader.feed(end.text) + reader.close() if reader else end.text
        calls = _calls(reader)
        return Completion(text, len(ready.ids), len(end.tokens), _finish(end, calls), calls)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        ready = await asyncio.to_thread(self._prepare, prompt)
        reader = _reader(ready)
        async with aclosing(self._updates(ready, stream=True)) as updates:
            async for update in updates:
                text = reader.feed(update.text) if reader else update.text
                if isinstance(update.end, Generation):
                    text += reader.close() if reader else ""
                    calls = _calls(reader)
                    if text:
                        yield Piece(text, len(ready.ids), update.tokens)
                    yield Piece("", len(ready.ids), update.tokens, _finish(update.end, calls), calls)
                elif text:
                    yield Piece(text, len(ready.ids), update.tokens)

    @property
    def alive(self) -> bool:
        """Whether the thread that writes still runs."""
        return self._scheduler.alive

    def close(self) -> None:
        """End the scheduler's thread."""
        self._scheduler.close()

    async def _updates(self, ready: Ready, *, stream: bool) -> AsyncGenerator[Update]:
        """What the scheduler tells of one prompt; closing it frees the prompt's place."""
        loop, updates = asyncio.get_running_loop(), asyncio.Queue[Update]()

        def sink(update: Update) -> None:
            loop.call_soon_threadsafe(updates.put_nowait, update)

        try:
            ticket = self._scheduler.submit(ready.ids, ready.sampling, sink, stream=stream)
        except QueueFull as full:
            raise Overloaded(min(max(1.0, full.wait_s), _LONGEST_WAIT_S)) from full
        except ModelError as error:
            raise ModelFailed(type(error).__name__) from error
        try:
            while True:
                update = await updates.get()
                if isinstance(update.end, Exception):
                    logger.error("an answer failed", exc_info=update.end)
                    raise ModelFailed(type(update.end).__name__) from update.end
                yield update
                if update.end is not None:
                    return
        finally:
            self._scheduler.cancel(ticket)

    def _prepare(self, prompt: Prompt) -> Ready:
        """Prompt ids and how to sample, within the context; raises PromptRefused."""
        check_texts(prompt_texts(prompt))
        offered = _offered(prompt)
        try:
            ids = self._encode(prompt, offered)
        except ToolsUnsupported as error:
            raise PromptRefused(str(error), "unsupported") from None
        except ModelError as error:
            raise PromptRefused(str(error), "invalid_messages") from None
        if not ids:
            raise PromptRefused("the prompt is empty, and this model has no token to begin with", "invalid_messages")
        room, asked = self._context - len(ids), prompt.max_tokens or 1
        if room < asked:
            raise PromptRefused(
                f"this model's context is {self._context:,} tokens: the messages take {len(ids):,}, and {asked:,} more "
                "were asked for; shorten the messages or lower max_tokens",
                "context_length_exceeded",
            )
        sampling = SamplingParams(
            max_tokens=prompt.max_tokens or min(self._settings.max_tokens, room),
            temperature=prompt.temperature,
            top_p=prompt.top_p,
            stop=tuple(stop for stop in prompt.stop if stop),
            # a client's seed is brought into the engine's range
            seed=secrets.randbelow(_SEEDS) if prompt.seed is None else prompt.seed % _SEEDS,
        )
        return Ready(ids, sampling, offered)

    def _encode(self, prompt: Prompt, offered: tuple[str, ...]) -> list[int]:
        if prompt.raw:
            return self._chat.encode_text(prompt.messages[0].content)
        turns: list[dict[str, Any]] = [
            {"role": one.role, "content": one.content, "tool_calls": one.tool_calls, "tool_call_id": one.tool_call_id}
            for one in prompt.messages
        ]
        definitions = [tool_definition(tool.definition) for tool in prompt.tools] if offered else []
        return encode_with_tools(self._chat, turns, definitions)


def load_writer(settings: ReplicaSettings) -> Writer:
    """The language model in the settings' folder; raises ModelError."""
    import torch

    from raysafe.models.chat import ChatFormat
    from raysafe.models.generate.transformers_engine import TransformersEngine
    from raysafe.models.language import check_tokenizer, context_length, load_policy, load_tokenizer
    from raysafe.serving.local import to_device

    chat = ChatFormat(load_tokenizer(settings.folder), settings.chat_template)
    if settings.engine == "vllm":
        from raysafe.models.generate.vllm_engine import VLLMEngine

        dtype = "bfloat16" if torch.cuda.is_available() else "float32"
        engine = VLLMEngine(
            settings.folder,
            chat.tokenizer,
            dtype=dtype,
            batch_rows=settings.max_batch,
            cache_bytes=settings.cache_bytes,
        )
        return Writer(settings, engine, chat, engine.context)
    policy = load_policy(settings.folder, dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32)
    check_tokenizer(policy, chat.tokenizer)
    to_device(policy)
    return Writer(settings, TransformersEngine(policy, chat.tokenizer), chat, context_length(policy.config))


def _offered(prompt: Prompt) -> tuple[str, ...]:
    """Names of the tools that the model may call; raises PromptRefused where it would have to call one."""
    if prompt.tool_choice == "none":
        return ()
    if prompt.tool_choice != "auto":
        raise PromptRefused(
            "this model can't be made to call a tool: set tool_choice to 'auto' or 'none', and tell it in the messages",
            "unsupported",
        )
    return tuple(tool.name for tool in prompt.tools)


def _reader(ready: Ready) -> CallReader | None:
    return CallReader(ready.offered) if ready.offered else None


def _calls(reader: CallReader | None) -> tuple[ToolCall, ...]:
    calls = reader.calls if reader else []
    return tuple(ToolCall(f"call_{secrets.token_hex(12)}", call.name, call.arguments) for call in calls)


def _finish(end: Generation, calls: tuple[ToolCall, ...]) -> Finish:
    if end.finish_reason == "length":
        return "length"
    return "tool_calls" if calls else "stop"
