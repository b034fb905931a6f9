"""The gateway's view of a model on Serve replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, cast

from raysafe.serving.backend import (
    Completion,
    Embeddings,
    Inputs,
    ModelFailed,
    Move,
    Piece,
    Prediction,
    Prompt,
    Situation,
)
from raysafe.serving.replicas import REFUSALS

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle


class HandleBackend:
    """A Serve deployment of ModelReplica, as the gateway's backend."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def complete(self, prompt: Prompt) -> Completion:
        return await self._ask("complete", prompt)

    async def embed(self, texts: tuple[str, ...]) -> Embeddings:
        return await self._ask("embed", texts)

    async def predict(self, inputs: Inputs) -> tuple[Prediction, ...]:
        return await self._ask("predict", inputs)

    async def act(self, situation: Situation) -> tuple[Move, ...]:
        return await self._ask("act", situation)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        from ray.exceptions import RayError

        response = self._handle.options(stream=True).stream.remote(prompt)
        ended = False
        try:
            async for piece in cast("AsyncGenerator[Any]", response):
                if isinstance(piece, REFUSALS):
                    raise piece
                yield piece
            ended = True
        except RayError as error:
            raise ModelFailed(type(error).__name__) from error
        finally:
            if not ended:
                response.cancel()

    async def _ask(self, method: str, argument: Any) -> Any:
        from ray.exceptions import RayError

        response = getattr(self._handle, method).remote(argument)
        try:
            answer = await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except RayError as error:
            raise ModelFailed(type(error).__name__) from error
        if isinstance(answer, REFUSALS):
            raise answer
        return answer
