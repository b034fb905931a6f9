"""Budgets at the gateway: set aside before the model, settled after it, refused with a time to come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest

from raysafe.control.budgets import Budgets
from raysafe.control.capabilities import Capabilities
from raysafe.errors import ConfigError
from raysafe.guards.policy import Policy
from raysafe.records.store import open_store
from raysafe.serving.backend import Completion, Overloaded, Piece, Prompt, PromptRefused
from tests.serving.conftest import Desk, Scripted, make_desk

pytestmark = [pytest.mark.anyio, pytest.mark.serve]
MESSAGES: Any = [{"role": "user", "content": "hi"}]
MODES = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/store.db"
    open_store(url).close()
    return url


@pytest.fixture
def counters(url: str) -> Iterator[Budgets]:
    with Budgets(url) as budgets:
        yield budgets


def desk_with(counters: Budgets | None, *budgets: dict[str, Any], backend: Any = None, **settings: Any) -> Desk:
    policy = {"guards": [{"kind": "capabilities", "budgets": list(budgets)}]}
    return make_desk(backend, policy, counters=counters, **settings)


async def ask(desk: Desk, stream: bool = False, **options: Any) -> None:
    answer = await desk.openai.chat.completions.create(model="m", messages=MESSAGES, stream=stream, **options)
    if stream:
        async for _ in answer:
            pass


REQUESTS = {"subject": "key", "resource": "requests", "window": "total", "limit": 2}
TOKENS = {"subject": "tenant", "resource": "tokens", "window": "hour", "limit": 100}


@MODES
async def test_a_spent_budget_refuses_and_says_which(counters: Budgets, stream: bool) -> None:
    desk = desk_with(counters, REQUESTS)
    await ask(desk, stream)
    await ask(desk, stream)
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(desk, stream)
    assert "2 requests" in caught.value.message and caught.value.code == "rate_limit_exceeded"
    assert len(desk.backend.prompts) == 2
    verdict = desk.audit.rows[-1]["verdicts"][-1]
    assert (verdict["guard"], verdict["action"], verdict["category"]) == ("capabilities", "block", "budget")


@MODES
async def test_unused_tokens_are_given_back(counters: Budgets, stream: bool) -> None:
    """An answer takes 12 tokens and sets aside some 90: unsettled, the second would find nothing left."""
    desk = desk_with(counters, TOKENS)
    for _ in range(2):
        await ask(desk, stream, max_tokens=50)
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(desk, stream, max_tokens=60)
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 3600


@pytest.mark.parametrize("raised", [PromptRefused("too long", "context_length_exceeded"), Overloaded()])
async def test_what_the_model_never_worked_on_costs_nothing(counters: Budgets, raised: Exception) -> None:
    async def refuse() -> None:
        raise raised

    desk = desk_with(counters, {**REQUESTS, "limit": 1}, backend=Scripted(before=refuse))
    with pytest.raises(openai.APIStatusError):
        await ask(desk)
    desk.backend._before = None
    await ask(desk)


async def test_a_request_that_a_guard_stops_costs_nothing(counters: Budgets) -> None:
    policy = {
        "guards": [
            {"kind": "capabilities", "budgets": [{**REQUESTS, "limit": 1}]},
            {"kind": "patterns", "stages": ["input"], "rules": [{"name": "r", "phrases": ["bomb"]}]},
        ]
    }
    desk = make_desk(policy=policy, counters=counters)
    for _ in range(3):
        with pytest.raises(openai.BadRequestError):
            await desk.openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "bomb"}])
    await ask(desk)


@MODES
async def test_work_is_cut_where_its_model_seconds_end(counters: Budgets, stream: bool) -> None:
    budget = {"subject": "model", "resource": "model_seconds", "window": "day", "limit": 10, "aside": 0.05}
    backend = Scripted(before=lambda: asyncio.sleep(5))
    with pytest.raises(openai.APIStatusError) as caught:
        await ask(desk_with(counters, budget, backend=backend), stream)
    assert caught.value.status_code == 504 and backend.closed_early


async def test_the_rates_of_a_safety_case_are_budgets(counters: Budgets) -> None:
    desk = make_desk(policy={"guards": []}, counters=counters, granted=Capabilities(requests_per_minute=1))
    await ask(desk)
    with pytest.raises(openai.RateLimitError):
        await ask(desk)


async def test_a_store_that_cannot_count_lets_nothing_pass(url: str, tmp_path: Path) -> None:
    with Budgets(f"sqlite:///{tmp_path}/nowhere/store.db") as budgets:
        desk = desk_with(budgets, REQUESTS)
        with pytest.raises(openai.InternalServerError) as caught:
            await ask(desk)
    assert caught.value.code == "guard_failed"
    assert desk.backend.prompts == []
    assert desk.audit.rows[-1]["verdicts"][-1]["error"] == "StorageError"


def test_budgets_without_a_store_are_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="no store to count in"):
        desk_with(None, REQUESTS)


@pytest.mark.parametrize("endpoint", ["embeddings", "predict", "act"])
async def test_every_endpoint_draws_on_the_budget(counters: Budgets, endpoint: str) -> None:
    from tests.serving.test_matrix import BODIES, Model

    desk = desk_with(counters, {**REQUESTS, "limit": 1}, backend=Model())
    async with desk.http as client:
        found = [
            (await client.post(f"/v1/{endpoint}", json={"model": "m", **BODIES[endpoint]})).status_code for _ in "12"
        ]
    assert found == [200, 429]


def test_a_budget_that_would_have_no_effect_is_refused() -> None:
    for change in ({"aside": 3}, {"subject": "model", "only": ["x"]}):
        with pytest.raises(ConfigError, match="leave it out"):
            Policy.parse({"guards": [{"kind": "capabilities", "budgets": [{**REQUESTS, **change}]}]})


async def test_a_stream_that_its_endpoint_cuts_is_paid_for(counters: Budgets) -> None:
    class Cut(Scripted):
        async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
            yield Piece("a long answer, all of it", 7, 500)
            await asyncio.sleep(0.01)
            raise PromptRefused("stopped by a filter of its own", "content_filter")

    desk = desk_with(counters, {**REQUESTS, "limit": 1}, backend=Cut())
    for expected in (openai.APIError, openai.RateLimitError):
        with pytest.raises(expected):
            await ask(desk, True)


@pytest.mark.parametrize("tokens", [1 << 41, -5])
async def test_a_strange_count_of_tokens_stays_charged_and_harms_nobody(counters: Budgets, tokens: int) -> None:
    class Strange(Scripted):
        async def complete(self, prompt: Prompt) -> Completion:
            return Completion("Hello.", tokens, 0)

    desk = desk_with(counters, TOKENS, backend=Strange())
    with suppress(openai.InternalServerError):
        await ask(desk, max_tokens=50)
    with pytest.raises(openai.RateLimitError):
        await ask(desk, max_tokens=60)
    async with desk.http as client:
        assert 'raysafe_requests_under_way{model="m"} 0.0' in (await client.get("/metrics")).text


async def test_a_rate_that_no_budget_can_hold_is_no_way_round_the_audit_log(counters: Budgets) -> None:
    desk = desk_with(counters)
    async with desk.http as client:
        body = {"model": "m", "messages": MESSAGES}
        asked = {"X-RaySafe-Capabilities": '{"tokens_per_minute": 10000000000000}'}
        answer = await client.post("/v1/chat/completions", json=body, headers=asked)
    assert answer.status_code == 200 and desk.audit.rows
