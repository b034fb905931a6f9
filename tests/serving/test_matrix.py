"""Every endpoint, whole and streamed, times every kind of guard, times everything that a guard can do.

The oracle is the wire: what left the app byte by byte, and which audit rows were durable at that moment.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from raysafe.control.keys import new_key
from raysafe.guards import kinds
from raysafe.guards.guard import ToolCall
from raysafe.guards.policy import Policy
from raysafe.serving.backend import Completion, Embeddings, Inputs, Move, Piece, Prediction, Prompt, Situation
from raysafe.serving.control_room import ControlRoom
from raysafe.serving.door import AlwaysOpen
from raysafe.serving.gateway import Gateway
from raysafe.serving.settings import GatewaySettings
from tests.serving.planted import CUT, MARKER, OUTCOMES, PLACES, Outcome, SlowAudit, Where

pytestmark = [pytest.mark.anyio, pytest.mark.serve]
ANSWER = f"Well then, it holds {MARKER} and some more words."
CALL = ToolCall("call_1", "lookup", json.dumps({"query": f"find {MARKER} now"}))
TOOLS = [{"type": "function", "function": {"name": "lookup", "parameters": {"type": "object"}}}]
TEXT = f"please look at {MARKER} for me"
PATHS = {"chat": "chat/completions", "tools": "chat/completions"}
BODIES: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": TEXT}]},
    "tools": {"messages": [{"role": "user", "content": TEXT}], "tools": TOOLS},
    "completions": {"prompt": TEXT},
    "embeddings": {"input": TEXT},
    "predict": {"inputs": [TEXT]},
    "act": {"observations": [[1.0, 2.0], [2.0, 1.0]]},
}
CELLS = [
    (endpoint, stream)
    for endpoint in ("chat", "tools", "completions", "embeddings", "predict", "act")
    for stream in (False, True)
    if not stream or endpoint in ("chat", "tools", "completions")
]


class Model:
    """Says the marker in every way that a model can say something, and notes what it was given."""

    def __init__(self) -> None:
        self.given: list[str] = []

    async def complete(self, prompt: Prompt) -> Completion:
        self.given += [message.content for message in prompt.messages]
        if prompt.tools:
            return Completion("Let me see.", 5, 5, "tool_calls", (CALL,))
        return Completion(ANSWER, 5, 5)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        answer = await self.complete(prompt)
        for start in range(0, len(answer.text), 4):
            yield Piece(answer.text[start : start + 4], 5, start)
        yield Piece("", 5, 5, answer.finish_reason, answer.tool_calls)

    async def embed(self, texts: tuple[str, ...]) -> Embeddings:
        self.given += texts
        return Embeddings(tuple((0.5, 0.25) for _ in texts), 3)

    async def predict(self, inputs: Inputs) -> tuple[Prediction, ...]:
        self.given += [str(value) for value in inputs]
        return tuple(Prediction(MARKER, {MARKER: 1.0}) for _ in inputs)

    async def act(self, situation: Situation) -> tuple[Move, ...]:
        self.given += [str(observation) for observation in situation.observations]
        return tuple(Move(2, (0.1, 0.2, 0.7)) for _ in situation.observations)


class Wire:
    """The app as a client sees it, with a note of what left and how many rows were durable then."""

    def __init__(self, app: Any, audit: SlowAudit) -> None:
        self._app, self._audit = app, audit
        self.sent: list[tuple[bytes, int, int]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def noting(message: Any) -> None:
            if message.get("body"):
                self.sent.append((message["body"], len(self._audit.durable), len(self._audit.rows)))
            await send(message)

        await self._app(scope, receive, noting)

    @property
    def body(self) -> str:
        return b"".join(part for part, _, _ in self.sent).decode()


class Case:
    """One gateway with one planted guard, and a bystander after it."""

    def __init__(self, where: Where, outcome: Outcome, stream: bool = False) -> None:
        planted = {"kind": "planted", "where": where, "outcome": outcome, "timeout_s": 0.05}
        bystander = {"kind": "planted", "name": "bystander", "where": where, "outcome": "allow"}
        policy = Policy.parse({"stream_window": 1, "guards": [planted, bystander]})
        key, self.secret = new_key("tester")
        self.model, self.audit = Model(), SlowAudit()
        settings = GatewaySettings(model="m", policy=policy)
        self.app = Gateway(settings, self.model, ControlRoom(self.audit, AlwaysOpen([key]))).app()
        self.wire = Wire(self.app, self.audit)

    async def ask(self, endpoint: str, stream: bool) -> dict[str, Any]:
        """What the official client makes of the answer; an error as {"error": code}."""
        http = httpx.AsyncClient(transport=httpx.ASGITransport(self.wire))
        async with AsyncOpenAI(
            api_key=self.secret, base_url="http://gateway/v1", http_client=http, max_retries=0
        ) as client:
            try:
                return await _ask(client, endpoint, stream)
            except openai.APIError as error:
                return {"error": error.code}


async def _ask(client: AsyncOpenAI, endpoint: str, stream: bool) -> dict[str, Any]:
    if endpoint in ("chat", "tools"):
        extra: Any = {"tools": TOOLS} if endpoint == "tools" else {}
        messages: Any = [{"role": "user", "content": TEXT}]
        if not stream:
            answer = await client.chat.completions.create(model="m", messages=messages, **extra)
            choice = answer.choices[0]
            calls = [call.function.arguments for call in choice.message.tool_calls or ()]  # type: ignore[union-attr]
            return {"text": choice.message.content, "calls": calls, "finish": choice.finish_reason}
        said: dict[str, Any] = {"text": "", "calls": [], "finish": None}
        async for chunk in await client.chat.completions.create(model="m", messages=messages, stream=True, **extra):
            for part in chunk.choices:
                said["text"] += part.delta.content or ""
                said["calls"] += [call.function.arguments for call in part.delta.tool_calls or () if call.function]
                said["finish"] = part.finish_reason or said["finish"]
        return said
    if endpoint == "completions":
        if not stream:
            whole = await client.completions.create(model="m", prompt=TEXT)
            return {"text": whole.choices[0].text, "finish": whole.choices[0].finish_reason}
        said = {"text": "", "finish": None}
        async for piece in await client.completions.create(model="m", prompt=TEXT, stream=True):
            said["text"] += piece.choices[0].text
            said["finish"] = piece.choices[0].finish_reason or said["finish"]
        return said
    if endpoint == "embeddings":
        vectors = await client.embeddings.create(model="m", input=TEXT)
        return {"text": str(vectors.data[0].embedding), "finish": "stop"}
    found = await client.post(f"/{endpoint}", body={"model": "m", **BODIES[endpoint]}, cast_to=object)
    return {"text": str(found), "finish": "stop"}


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds.KINDS, "planted", "tests.serving.planted:PlantedConfig")


def meets(endpoint: str, where: Where) -> bool:
    """Whether a guard at this place sees the marker at this endpoint."""
    if where == "input":
        return endpoint != "act"
    if where == "tool":
        return endpoint == "tools"
    return endpoint in ("chat", "tools", "completions", "predict")


@pytest.mark.parametrize(("endpoint", "stream"), CELLS, ids=lambda value: str(value))
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_no_unguarded_byte_leaves(endpoint: str, stream: bool, where: Where, outcome: Outcome) -> None:
    case = Case(where, outcome)
    said = await case.ask(endpoint, stream)
    stopped, seen = outcome not in ("allow", "modify"), meets(endpoint, where)
    guarded = seen and where != "input" and outcome != "allow"
    if guarded or (seen and stopped):
        assert MARKER not in case.wire.body
    if seen and where == "input":
        assert (case.model.given == []) is stopped, "the model is asked unless the request is stopped"
        if outcome == "modify":
            assert all(MARKER not in text and CUT in text for text in case.model.given)
    if not (seen and stopped):
        assert "error" not in said and said["finish"] in ("stop", "tool_calls")
    elif outcome in ("error", "timeout"):
        assert said == {"error": "guard_failed"}
    elif where == "input" or endpoint == "predict":
        assert said == {"error": "content_policy_violation"}
    else:
        assert said["finish"] == "content_filter" and not said.get("calls")
    if guarded and outcome == "modify":
        assert CUT in case.wire.body


@pytest.mark.parametrize(("endpoint", "stream"), CELLS, ids=lambda value: str(value))
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_the_row_is_durable_before_the_byte(endpoint: str, stream: bool, where: Where, outcome: Outcome) -> None:
    case = Case(where, outcome)
    await case.ask(endpoint, stream)
    assert case.wire.sent
    left = 0
    for part, durable, written in case.wire.sent:
        # a piece may leave while the rows of the answer's end, and of its calls, are under way
        assert durable >= 1 and written - durable <= (2 if b'"delta"' in part or b"text_completion" in part else 0)
        left += sum(len(_content(line)) for line in part.decode().split("\n") if line.startswith("data: {"))
        rows = case.audit.durable[:durable]
        cleared = any(row["kind"] == "verdict" and row["stage"] == "output" for row in rows)
        assert cleared or left <= sum(row["characters"] for row in rows if row["kind"] == "release")


@pytest.mark.parametrize(("endpoint", "stream"), CELLS, ids=lambda value: str(value))
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_a_guard_that_did_not_run_is_never_recorded_as_passed(
    endpoint: str, stream: bool, where: Where, outcome: Outcome
) -> None:
    case = Case(where, outcome)
    await case.ask(endpoint, stream)
    verdicts = [(row, verdict) for row in case.audit.rows for verdict in row.get("verdicts", ())]
    if not (meets(endpoint, where) and outcome not in ("allow", "modify")):
        assert all(row["not_run"] == {} for row in case.audit.rows if "not_run" in row)
        return
    stopping = [row for row in case.audit.rows if row["kind"] == "verdict" and row["action"] in ("block", "hold")]
    assert [list(row["not_run"]) for row in stopping] == [["bystander"]]
    assert all("bystander" not in {v["guard"] for v in row["verdicts"]} for row in stopping)
    if outcome in ("error", "timeout"):
        failed = [verdict for _, verdict in verdicts if verdict["guard"] == "planted" and verdict["action"] != "allow"]
        assert [("error" in verdict, verdict["action"]) for verdict in failed] == [(True, "block")]
        assert MARKER not in json.dumps(case.audit.rows)


def _content(line: str) -> str:
    for choice in json.loads(line.removeprefix("data: ")).get("choices", ()):
        return choice.get("delta", {}).get("content") or choice.get("text") or ""
    return ""
