"""The replica and the gateway's handle: what a backend raises crosses Ray as a value, and is raised again."""

import pickle
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from ray.exceptions import RayError

from raysafe.guards.guard import Message
from raysafe.serving.backend import Completion, ModelFailed, NotOffered, Overloaded, Piece, Prompt, PromptRefused
from raysafe.serving.handle import HandleBackend
from raysafe.serving.replicas import ModelReplica, ReplicaSettings

pytestmark = pytest.mark.anyio
PROMPT = Prompt((Message("user", "hello"),))
REFUSED = [PromptRefused("too long", "context"), ModelFailed("ValueError"), Overloaded(7.5), NotOffered()]


class Stub:
    """A backend that answers once, then raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.closed, self.alive = error, False, True

    async def complete(self, prompt: Prompt) -> Completion:
        if self.error:
            raise self.error
        return Completion("hi", 1, 1)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        try:
            yield Piece("h", 1, 1)
            if self.error:
                raise self.error
            yield Piece("i", 1, 2, "stop")
        finally:
            self.closed = True

    embed = predict = act = complete

    def close(self) -> None:
        self.alive = False


class Response:
    """What a handle's call returns: awaited, or iterated where it streams; every item crosses as Ray sends it."""

    def __init__(self, answer: Any) -> None:
        self._answer, self.cancelled = answer, False

    def __await__(self) -> Any:
        async def crossed() -> Any:
            return pickle.loads(pickle.dumps(await self._answer))

        return crossed().__await__()

    async def __aiter__(self) -> Any:
        async for item in self._answer:
            yield pickle.loads(pickle.dumps(item))

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    def __init__(self, replica: Any) -> None:
        self._replica = replica
        self.responses: list[Response] = []

    def options(self, stream: bool) -> "Handle":
        return self

    def __getattr__(self, name: str) -> Any:
        class Method:
            def remote(_, argument: Any) -> Response:
                self.responses.append(Response(getattr(self._replica, name)(argument)))
                return self.responses[-1]

        return Method()


def behind(backend: Any) -> tuple[HandleBackend, Handle]:
    handle = Handle(ModelReplica.over(backend))
    return HandleBackend(handle), handle  # type: ignore[arg-type]


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", ["complete", "embed", "predict", "act"])
async def test_what_a_backend_raises_is_raised_at_the_gateway(error: Exception, method: str) -> None:
    backend, _ = behind(Stub(error))
    with pytest.raises(type(error)) as raised:
        await getattr(backend, method)(PROMPT)
    assert raised.value.__dict__ == error.__dict__


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: type(error).__name__)
async def test_a_stream_raises_after_what_came_before(error: Exception) -> None:
    backend, handle = behind(Stub(error))
    seen = []
    with pytest.raises(type(error)):
        async for piece in backend.stream(PROMPT):
            seen.append(piece.text)
    assert seen == ["h"] and handle.responses[0].cancelled


async def test_a_whole_stream_is_not_cancelled_and_a_closed_one_is() -> None:
    backend, handle = behind(Stub())
    assert [piece.text async for piece in backend.stream(PROMPT)] == ["h", "i"]
    pieces = backend.stream(PROMPT)
    await anext(pieces)
    await pieces.aclose()
    assert [response.cancelled for response in handle.responses] == [False, True]


async def test_closing_a_replicas_stream_closes_the_backends() -> None:
    stub = Stub()
    pieces = ModelReplica.over(stub).stream(PROMPT)
    await anext(pieces)
    await pieces.aclose()
    assert stub.closed


async def test_a_replica_whose_thread_has_ended_is_not_healthy() -> None:
    stub = Stub()
    replica = ModelReplica.over(stub)
    replica.check_health()
    stub.close()
    with pytest.raises(ModelFailed, match="has ended"):
        replica.check_health()


async def test_an_error_of_ray_is_a_failed_model() -> None:
    class Away(RayError):
        pass

    backend, _ = behind(Stub(Away("the replica died")))
    with pytest.raises(ModelFailed, match="Away"):
        await backend.complete(PROMPT)
    with pytest.raises(ModelFailed, match="Away"):
        async for _ in backend.stream(PROMPT):
            pass


async def test_a_replica_loads_what_its_folder_holds() -> None:
    replica = ModelReplica(ReplicaSettings(folder="preset:tiny", max_tokens=4, chat_template="plain"))
    answer = await replica.complete(PROMPT)
    assert isinstance(answer, Completion) and 0 < answer.completion_tokens <= 4
    assert isinstance(await replica.embed(("text",)), NotOffered)
