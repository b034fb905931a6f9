"""Slow input guards beside the model: they cost no time, nothing leaves before their verdict, a stop ends the model's
work; and policies that change under a running gateway."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import Field

from raysafe.guards import kinds
from raysafe.guards.guard import Action, Exchange, Stage, Verdict
from raysafe.guards.policy import Policy
from raysafe.guards.settings import NOTHING, GuardConfig, Resources
from tests.serving.conftest import Desk, Scripted, make_desk
from tests.serving.test_chat import MODES, ask, post_raw

pytestmark = [pytest.mark.anyio, pytest.mark.serve]


class SlowConfig(GuardConfig):
    """`kind: slow`: waits for the test before it answers."""

    kind: Literal["slow"] = "slow"
    name: str = Field(default="slow")
    does: Action = "allow"

    def build(self, resources: Resources = NOTHING) -> Slow:
        return Slow(self)


class Slow:
    inline = False
    stages: frozenset[Stage] = frozenset({"input"})
    asked = threading.Event()
    answer = threading.Event()

    def __init__(self, config: SlowConfig) -> None:
        self.name, self._action = config.name, config.does

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        self.asked.set()
        assert self.answer.wait(5)
        if self._action == "modify":
            return Verdict(self.name, stage, "modify", replacement=exchange.texts(stage))
        return Verdict(self.name, stage, self._action, "" if self._action == "allow" else "it is slow and strict")


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds.KINDS, "slow", "tests.serving.test_beside:SlowConfig")
    Slow.asked.clear()
    Slow.answer.clear()


def desk_with(does: Action, backend: Scripted) -> Desk:
    return make_desk(backend, {"stream_window": 1, "guards": [{"kind": "slow", "beside": True, "does": does}]})


@MODES
async def test_the_model_works_meanwhile_and_nothing_leaves_before_the_verdict(stream: bool) -> None:
    backend = Scripted()
    desk, sent = desk_with("allow", backend), list[Any]()
    task = asyncio.create_task(post_raw(desk, stream, sent, asyncio.Event()))
    assert await asyncio.to_thread(Slow.asked.wait, 5)
    for _ in range(100):
        await asyncio.sleep(0.001)
    assert backend.prompts and sent == []
    Slow.answer.set()
    await asyncio.wait_for(task, 5)
    assert sent[0] == 200
    [row] = [row for row in desk.audit.rows if row["stage"] == "input"]
    assert ([verdict["guard"] for verdict in row["verdicts"]], row["not_run"]) == (["slow"], {})


@MODES
async def test_a_stop_ends_the_models_work(stream: bool) -> None:
    backend = Scripted(before=lambda: asyncio.sleep(30))
    desk = desk_with("block", backend)
    task = asyncio.create_task(ask(desk.openai, stream=stream))
    assert await asyncio.to_thread(Slow.asked.wait, 5)
    Slow.answer.set()
    with pytest.raises(openai.BadRequestError) as caught:
        await asyncio.wait_for(task, 5)
    assert caught.value.code == "content_policy_violation" and "slow and strict" in caught.value.message
    assert backend.closed_early


@MODES
async def test_a_stop_after_the_answer_is_a_stop(stream: bool) -> None:
    desk = desk_with("hold", Scripted())
    task = asyncio.create_task(ask(desk.openai, stream=stream))
    assert await asyncio.to_thread(Slow.asked.wait, 5)
    await asyncio.sleep(0.05)
    Slow.answer.set()
    with pytest.raises(openai.BadRequestError):
        await asyncio.wait_for(task, 5)


@MODES
async def test_what_would_have_changed_the_request_has_failed(stream: bool) -> None:
    desk = desk_with("modify", Scripted())
    Slow.answer.set()
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(desk.openai, stream=stream)
    assert caught.value.code == "guard_failed"


WEAPONS = {"kind": "patterns", "name": "requests", "stages": ["input"], "rules": [{"name": "r", "phrases": ["bomb"]}]}


async def test_a_changed_policy_is_in_force_for_the_next_request(tmp_path: Path) -> None:
    path, mark = tmp_path / "policy.yaml", "...\n"
    old, new = Policy.parse({"version": 1, "guards": []}), Policy.parse({"version": 2, "guards": [WEAPONS]})
    path.write_text(old.to_yaml() + mark)
    desk = make_desk(policy_file=str(path))
    async with desk.app.router.lifespan_context(desk.app):
        await ask(desk.openai, "a bomb", stream=False)
        path.write_text(new.to_yaml() + mark)
        await _until(lambda: any(row["kind"] == "policy" for row in desk.audit.rows))
        await asyncio.sleep(0.01)
        with pytest.raises(openai.BadRequestError):
            await ask(desk.openai, "a bomb", stream=False)
        path.write_text("guards: [")
        await _until(lambda: sum(row["kind"] == "policy" for row in desk.audit.rows) == 2)
        with pytest.raises(openai.BadRequestError):
            await ask(desk.openai, "a bomb", stream=False)
        async with desk.http as client:
            health = (await client.get("/healthz")).json()
    changes = [row for row in desk.audit.rows if row["kind"] == "policy"]
    assert [change["accepted"] for change in changes] == [True, False]
    assert health["status"] == "ok" and health["policy"] == new.label and "refused" in health["policy_file"]


async def _until(met: Any) -> None:
    async with asyncio.timeout(10):
        while not met():
            await asyncio.sleep(0.02)
