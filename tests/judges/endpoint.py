"""An OpenAI-compatible endpoint on 127.0.0.1 that answers by script, counts requests and remembers what it was sent."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from raysafe.judges.limits import Clock

KEY = "sk-very-secret-0123456789"
Body = dict[str, Any]


class FakeClock(Clock):
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.time, self.slept = 1000.0, []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


class Endpoint:
    """`script` gets a request's body and gives the answer's text, or a Response for a failure."""

    def __init__(self) -> None:
        self.url = ""
        self.reset()

    def reset(self) -> None:
        self.requests: list[Body] = []
        self.headers: list[Mapping[str, str]] = []
        self.script: Callable[[Body], str | Response] = lambda body: "7"
        self.alternatives: dict[str, float] | None = None
        """First token's alternatives and their probabilities, where a request asks for them."""
        self.tokens: list[str] | None = None
        """The answer's tokens; the whole text as one by default."""

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def complete(request: Request) -> Response:
            body = await request.json()
            self.requests.append(body)
            self.headers.append(dict(request.headers))
            answer = self.script(body)
            return answer if isinstance(answer, Response) else JSONResponse(self._completion(answer, body))

        return app

    def _completion(self, text: str, body: Body) -> Body:
        logprobs = None
        if body.get("logprobs") and self.alternatives is not None:
            top = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in self.alternatives.items()]
            steps = self.tokens or [text]
            logprobs = {"content": [{"token": t, "logprob": -0.1, "bytes": None, "top_logprobs": top} for t in steps]}
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
        return {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}


@contextmanager
def serve(endpoint: Endpoint) -> Iterator[Endpoint]:
    """The endpoint on a free port, in a thread."""
    with serve_app(endpoint.app()) as endpoint.url:
        yield endpoint


@contextmanager
def serve_app(app: FastAPI) -> Iterator[str]:
    """The base URL of an app on a free port, in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the endpoint didn't start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join()


def failing(status: int, times: int, headers: Mapping[str, str] | None = None, message: str = "no") -> Any:
    """A script that fails the first `times` requests, then answers 7."""
    left = [times]

    def script(body: Body) -> str | Response:
        if left[0] == 0:
            return "7"
        left[0] -= 1
        return JSONResponse({"error": {"message": message}}, status_code=status, headers=dict(headers or {}))

    return script
