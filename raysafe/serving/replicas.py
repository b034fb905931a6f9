"""The model behind the gateway: a replica that holds it, batches what waits and streams; and the gateway's view."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field

from raysafe.config import Config
from raysafe.errors import ModelError
from raysafe.serving.backend import Completion, ModelFailed, Piece, Prompt, PromptRefused, WritesOnly

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

    from raysafe.models.chat import ChatFormat
    from raysafe.models.generate.engine import Engine, SamplingParams

_SEEDS = 1 << 62


class ReplicaSettings(Config):
    """One model on one replica."""

    folder: str = Field(description="The model's folder.")
    digest: str | None = Field(
        default=None, description="sha256 that the folder must have; it is checked before and after each load."
    )
    chat_template: str = Field(
        default="auto", description="auto (the tokenizer's own), plain, or the path of a Jinja file."
    )
    max_tokens: int = Field(
        default=1024, ge=1, description="Longest answer where a request asks for none in particular."
    )
    max_batch: int = Field(default=16, ge=1, description="Most prompts generated together.")
    max_streams: int = Field(default=16, ge=1, description="Most answers streamed at a time; others wait.")


class ModelReplica:
    """Loads a model, after checking that its files are the approved ones, and answers prompts."""

    def __init__(self, settings: ReplicaSettings) -> None:
        import torch

        from raysafe.models.chat import ChatFormat
        from raysafe.models.generate.transformers_engine import TransformersEngine
        from raysafe.models.language import check_tokenizer, context_length, load_policy, load_tokenizer

        _check_digest(settings)
        tokenizer = load_tokenizer(settings.folder)
        gpu = torch.cuda.is_available()
        policy = load_policy(settings.folder, dtype=torch.bfloat16 if gpu else torch.float32)
        check_tokenizer(policy, tokenizer)
        policy.to("cuda" if gpu else "cpu")  # type: ignore[arg-type]
        if not gpu:
            # weights are pages of their file until they are copied: whoever changes it changes the model that is served
            for tensor in (*policy.parameters(), *policy.buffers()):
                tensor.data = tensor.data.clone()
        # what was loaded is what was approved only if the files are still the same after they were read
        _check_digest(settings)
        chat = ChatFormat(tokenizer, settings.chat_template)
        self._start(settings, TransformersEngine(policy, chat.tokenizer), chat, context_length(policy.config))

    def _start(self, settings: ReplicaSettings, engine: Engine, chat: ChatFormat, context: int) -> None:
        from raysafe.serving.batcher import Batcher

        self._settings, self._engine, self._chat, self._context = settings, engine, chat, context
        self._batcher = Batcher(engine, settings.max_batch)
        self._threads = ThreadPoolExecutor(settings.max_streams, "stream")

    @classmethod
    def over(cls, settings: ReplicaSettings, engine: Engine, chat: ChatFormat, context: int) -> ModelReplica:
        """A replica over an engine that is there already."""
        replica = cls.__new__(cls)
        replica._start(settings, engine, chat, context)
        return replica

    async def complete(self, prompt: Prompt) -> Completion | PromptRefused:
        """A whole answer. A refusal is returned, not raised: errors change their class on the way through Ray."""
        ready = self._prepare(prompt)
        if isinstance(ready, PromptRefused):
            return ready
        ids, sampling = ready
        answer = await self._batcher.generate(ids, sampling, _seed(prompt))
        return Completion(answer.text, len(ids), len(answer.tokens), _reason(answer.finish_reason))

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | PromptRefused]:
        """Pieces as they are written; closing the generator ends the generation at the next token."""
        ready = self._prepare(prompt)
        if isinstance(ready, PromptRefused):
            yield ready
            return
        ids, sampling = ready
        seed = secrets.randbelow(_SEEDS) if prompt.seed is None else _seed(prompt)
        loop, pieces, gone = asyncio.get_running_loop(), asyncio.Queue[Any](), False

        def generate() -> None:
            def put(item: object) -> None:
                loop.call_soon_threadsafe(pieces.put_nowait, item)

            try:
                if gone:
                    return
                written = self._engine.stream(ids, sampling.model_copy(update={"seed": seed}), lambda: gone)
                for text in written:
                    put(text)
                put(written.generation)
            except Exception as error:
                put(error)

        self._threads.submit(generate)
        count = 0
        try:
            while isinstance(item := await pieces.get(), str):
                count += 1
                yield Piece(item, len(ids), count)
        finally:
            gone = True
        if isinstance(item, Exception):
            raise item
        yield Piece("", len(ids), len(item.tokens), _reason(item.finish_reason))

    def _prepare(self, prompt: Prompt) -> tuple[list[int], SamplingParams] | PromptRefused:
        """Prompt ids and how to sample, within the context."""
        from raysafe.models.generate.engine import SamplingParams

        messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
        try:
            ids, _ = self._chat.encode(messages)
        except ModelError as error:
            return PromptRefused(str(error), "invalid_messages")
        room, asked = self._context - len(ids), prompt.max_tokens or 1
        if room < asked:
            return PromptRefused(
                f"this model's context is {self._context:,} tokens: the messages take {len(ids):,}, and {asked:,} more "
                "were asked for; shorten the messages or lower max_tokens",
                "context_length_exceeded",
            )
        return ids, SamplingParams(
            max_tokens=prompt.max_tokens or min(self._settings.max_tokens, room),
            temperature=prompt.temperature,
            top_p=prompt.top_p,
            stop=tuple(stop for stop in prompt.stop if stop),
        )


def _check_digest(settings: ReplicaSettings) -> None:
    from raysafe.records.digest import folder_digest

    if settings.digest is not None and (found := folder_digest(settings.folder)) != settings.digest:
        raise ModelError(
            f"{settings.folder} has changed since it was approved (digest {found[:12]}, approved "
            f"{settings.digest[:12]}); register and review it again"
        )


def _seed(prompt: Prompt) -> int | None:
    """A client's seed, brought into the engine's range."""
    return None if prompt.seed is None else prompt.seed % _SEEDS


def _reason(reason: str) -> Literal["stop", "length"]:
    return "length" if reason == "length" else "stop"


class HandleBackend(WritesOnly):
    """A Serve deployment of ModelReplica, as the gateway's backend."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def complete(self, prompt: Prompt) -> Completion:
        from ray.exceptions import RayError

        response = self._handle.complete.remote(prompt)
        try:
            answer = await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except RayError as error:
            raise ModelFailed(type(error).__name__) from error
        if isinstance(answer, PromptRefused):
            raise answer
        return answer

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        from ray.exceptions import RayError

        response = self._handle.options(stream=True).stream.remote(prompt)
        ended = False
        try:
            async for piece in cast("AsyncGenerator[Any]", response):
                if isinstance(piece, PromptRefused):
                    raise piece
                yield piece
            ended = True
        except RayError as error:
            raise ModelFailed(type(error).__name__) from error
        finally:
            if not ended:
                response.cancel()
