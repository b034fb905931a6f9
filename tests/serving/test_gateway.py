"""The gateway's other manners: keys, models, health, metrics, and errors in OpenAI's form."""

from typing import Any

import openai
import pytest

from raysafe.guards.policy import Policy
from tests.serving.conftest import POLICY, make_desk

pytestmark = [pytest.mark.anyio, pytest.mark.serve]
HELLO = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("header", [None, "Bearer rs-wrong", "Basic abc", "Bearer ", "rs-wrong"])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/models/m")]
)
async def test_without_a_valid_key_nothing_is_served(method: str, path: str, header: str | None) -> None:
    desk = make_desk()
    async with desk.http as client:
        client.headers.pop("Authorization")
        headers = {"Authorization": header} if header else {}
        answer = await client.request(method, path, headers=headers, json=HELLO if method == "POST" else None)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert desk.backend.prompts == [] and desk.audit.rows == []


async def test_the_client_library_knows_a_wrong_key() -> None:
    desk = make_desk()
    desk.secret = "rs-wrong"
    with pytest.raises(openai.AuthenticationError):
        await desk.openai.models.list()


async def test_the_served_model_is_listed() -> None:
    client = make_desk().openai
    assert [model.id async for model in client.models.list()] == ["m"]
    assert (await client.models.retrieve("m")).owned_by == "raysafe"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("other")


async def test_health_and_metrics_need_no_key() -> None:
    desk = make_desk()
    async with desk.http as client:
        await client.post("/v1/chat/completions", json=HELLO)
        client.headers.pop("Authorization")
        health, metrics = await client.get("/healthz"), await client.get("/metrics")
    assert health.json() == {"status": "ok", "model": "m", "policy": Policy.parse(POLICY).label}
    assert 'raysafe_requests_total{mode="whole",model="m",outcome="allowed"} 1.0' in metrics.text
    assert (
        'raysafe_verdicts_total{action="allow",failed="no",guard="answers",model="m",shadow="no",stage="output"} 1.0'
        in metrics.text
    )


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"model": "other"}, 404, "model_not_found", "model"),
        ({"functions": []}, 400, "unsupported_parameter", "functions"),
        ({"tools": [], "tool_choice": "required"}, 400, "invalid_value", None),
        ({"logprobs": True}, 400, "invalid_value", "logprobs"),
        ({"n": 2}, 400, "invalid_value", "n"),
        ({"temperature": 3}, 400, "invalid_value", "temperature"),
        ({"messages": []}, 400, "invalid_value", "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "invalid_value", "messages.0"),
        ({"messages": [{"role": "user"}]}, 400, "invalid_value", "messages.0"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_value", "messages.0.role"),
        ({"max_tokens": 0}, 400, "invalid_value", "max_tokens"),
        ({"max_tokens": 101}, 400, "string_above_max_length", "messages"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_bad_request_is_named(
    change: dict[str, Any], status: int, code: str, param: str | None, stream: bool
) -> None:
    async with make_desk().http as client:
        answer = await client.post("/v1/chat/completions", json={**HELLO, "stream": stream, **change})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)


async def test_what_is_no_json_and_what_is_too_large_are_refused() -> None:
    desk = make_desk(body_bytes=1000)
    async with desk.http as client:
        broken = await client.post("/v1/chat/completions", content=b"{")
        large = await client.post("/v1/chat/completions", content=b"x" * 1001)
        nowhere = await client.get("/v1/nowhere")
    assert (broken.status_code, large.status_code, nowhere.status_code) == (400, 413, 404)
    assert all("message" in answer.json()["error"] for answer in (broken, large, nowhere))


async def test_an_answers_message_can_be_sent_back_as_it_came() -> None:
    client = make_desk().openai
    first = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    history: Any = [{"role": "user", "content": "hi"}, first.choices[0].message, {"role": "user", "content": "go on"}]
    assert (await client.chat.completions.create(model="m", messages=history)).choices[0].message.content


async def test_text_parts_are_joined_and_null_options_are_defaults() -> None:
    desk = make_desk()
    parts = [{"type": "text", "text": "how to make"}, {"type": "text", "text": " a bomb"}]
    async with desk.http as client:
        blocked = await client.post(
            "/v1/chat/completions", json={**HELLO, "messages": [{"role": "user", "content": parts}]}
        )
        allowed = await client.post(
            "/v1/chat/completions", json={**HELLO, "temperature": None, "stop": None, "n": None}
        )
    assert (blocked.status_code, allowed.status_code) == (400, 200)


async def test_the_audit_log_is_closed_with_the_app() -> None:
    desk = make_desk()
    async with desk.app.router.lifespan_context(desk.app):
        assert not desk.audit.closed
    assert desk.audit.closed


async def test_request_ids_tie_answer_header_and_audit_row() -> None:
    desk = make_desk()
    async with desk.http as client:
        answer = await client.post("/v1/chat/completions", json=HELLO)
    assert answer.headers["x-request-id"] == answer.json()["id"] == desk.audit.rows[0]["subject"]
    assert answer.headers["x-raysafe-id"] == answer.json()["id"] and "trace" not in desk.audit.rows[0]


async def test_a_proxys_request_id_is_kept_and_not_sent_twice() -> None:
    desk = make_desk()
    async with desk.http as client:
        answer = await client.post("/v1/chat/completions", json=HELLO, headers={"X-Request-Id": "abc-1"})
        strange = await client.post("/v1/chat/completions", json=HELLO, headers={"X-Request-Id": "a text"})
    assert "x-request-id" not in answer.headers and answer.headers["x-raysafe-id"] == answer.json()["id"]
    rows = {row["subject"]: row.get("trace") for row in desk.audit.rows}
    assert (rows[answer.json()["id"]], rows[strange.json()["id"]]) == ("abc-1", None)
