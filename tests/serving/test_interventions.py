"""Interventions at a gateway: what clients get while one is in force, and of what was under way when it came."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from raysafe.control.budgets import Budgets
from raysafe.control.holds import Holds
from raysafe.control.keys import KeyRing, new_key
from raysafe.control.measures import NONE, Measures
from raysafe.control.trusted import TrustedConfig
from raysafe.guards.policy import Policy
from raysafe.records.store import open_store
from raysafe.serving.control_room import ControlRoom
from raysafe.serving.gateway import Gateway
from raysafe.serving.settings import GatewaySettings
from tests.serving.conftest import TOOLS, Calling, MemoryAudit, Scripted
from tests.serving.test_door import Switch

pytestmark = [pytest.mark.anyio, pytest.mark.serve]
HOLD = "X-RaySafe-Hold"
MODES = pytest.mark.parametrize("stream", [False, True])


def trusted_answer(messages: Any) -> str:
    """The trusted model of these tests: it repeats what it was asked, which shows that the guards came before it."""
    return f"Trusted: {messages[-1]['content']}"


def shadow(phrase: str, **more: Any) -> dict[str, Any]:
    rules = [{"name": "r", "phrases": [phrase]}]
    return {
        "kind": "patterns",
        "name": "watched",
        "stages": ["input", "output"],
        "mode": "shadow",
        "rules": rules,
        **more,
    }


class House:
    """A gateway whose measures the test sets, with a user's, a reviewer's and an operator's key."""

    def __init__(
        self, folder: Path, backend: Any = None, guards: tuple[dict[str, Any], ...] = (), trusted: bool = True
    ) -> None:
        url = f"sqlite:///{folder}/store.db"
        self.store = open_store(url)
        self.backend, self.audit, self.switch = backend or Scripted(), MemoryAudit(), Switch()
        people = {"ann": "user", "rita": "reviewer", "otto": "operator"}
        made = {name: new_key(name, "default", (scope,)) for name, scope in people.items()}  # type: ignore[arg-type]
        self.switch.keys = KeyRing(key for key, _ in made.values())
        self._secrets = {name: secret for name, (_, secret) in made.items()}
        model: Any = {"kind": "scripted", "model": f"{__name__}:trusted_answer"}
        settings = GatewaySettings(
            model="m",
            policy=Policy.parse({"stream_window": 1, "guards": list(guards)}),
            trusted=TrustedConfig(model=model) if trusted else None,
        )
        self.counters = Budgets(url)
        room = ControlRoom(self.audit, self.switch, self.counters, Holds(self.store, folder / "audit"))
        self.app = Gateway(settings, self.backend, room).app()

    def under(self, **measures: Any) -> None:
        self.switch.measures = Measures(**measures, in_force=("iv-1",))

    async def call(self, who: str, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._secrets[who]}"}
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
            return await client.request(method, path, json=body)

    async def ask(self, text: str = "hi", who: str = "ann", **more: Any) -> httpx.Response:
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
        return await self.call(who, "POST", "/v1/chat/completions", body)


def content(answer: httpx.Response) -> str:
    return answer.json()["choices"][0]["message"]["content"]


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@MODES
async def test_a_degraded_service_answers_by_the_trusted_model(tmp_path: Path, stream: bool) -> None:
    house = House(tmp_path)
    house.under(degraded=True)
    assert "Trusted: hi" in (await house.ask(stream=stream)).text
    assert house.backend.prompts == []
    assert all(row["interventions"] == ["iv-1"] for row in house.audit.rows)
    house.switch.measures = NONE
    assert "Hello" in (await house.ask()).text


async def test_guards_stand_before_and_behind_the_trusted_model(tmp_path: Path) -> None:
    guards = (shadow("bomb", mode="enforce"),)
    house = House(tmp_path, guards=guards)
    house.under(degraded=True)
    assert (await house.ask("a bomb")).status_code == 400
    pii = House(tmp_path, guards=({"kind": "pii", "entities": ["email"]},))
    pii.under(degraded=True)
    assert content(await pii.ask("to ann@example.com")) == "Trusted: to ann@example.com"


async def test_a_degraded_service_without_a_trusted_model_is_closed(tmp_path: Path) -> None:
    house = House(tmp_path, trusted=False)
    house.under(degraded=True)
    assert code(await house.ask()) == (503, "degraded")
    assert house.backend.prompts == []


async def test_the_trusted_model_gives_no_embeddings(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.under(degraded=True)
    answer = await house.call("ann", "POST", "/v1/embeddings", {"model": "m", "input": "text"})
    assert code(answer) == (404, "not_offered")


@MODES
async def test_every_answer_is_held_and_delivered_once_it_is_released(tmp_path: Path, stream: bool) -> None:
    house = House(tmp_path)
    house.under(review=True)
    assert "friend" not in (await house.ask(stream=stream)).text
    [hold] = (await house.call("rita", "GET", "/v1/holds")).json()["data"]
    assert hold["guard"] == "require-review"
    said = {"outcome": "released", "note": "fine"}
    await house.call("rita", "POST", f"/v1/holds/{hold['id']}", said)
    assert content(await house.call("ann", "GET", f"/v1/holds/{hold['id']}")) == "Hello there, friend."


async def test_calls_of_tools_are_held_too(tmp_path: Path) -> None:
    house = House(tmp_path, Calling(text="", url="http://x"))
    house.under(review=True)
    answer = await house.ask(tools=TOOLS)
    assert "tool_calls" not in answer.json()["choices"][0]["message"]
    [hold] = (await house.call("rita", "GET", "/v1/holds")).json()["data"]
    assert hold["stage"] == "tool_call"


@MODES
async def test_guards_in_shadow_mode_are_enforced(tmp_path: Path, stream: bool) -> None:
    house = House(tmp_path, guards=(shadow("friend"),))
    assert "friend" in (await house.ask()).text
    house.under(enforce_shadows=True)
    assert "friend" not in (await house.ask(stream=stream)).text


async def test_an_enforced_shadow_guard_is_asked_about_every_exchange(tmp_path: Path) -> None:
    house = House(tmp_path, guards=(shadow("friend", sample=0.0),))
    house.under(enforce_shadows=True)
    assert content(await house.ask()) == ""


async def test_a_throttle_counts_over_all_gateways(tmp_path: Path) -> None:
    houses = [House(tmp_path), House(tmp_path)]
    for house in houses:
        house.under(requests_per_minute=3.0)
    # five at once, so that hardly ever a minute ends in between
    answers = await asyncio.gather(*(houses[number % 2].ask() for number in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["Retry-After"]
    for house in houses:
        house.counters.close()


async def test_in_a_quarantine_only_reviewers_and_operators_get_answers(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.under(quarantined=True)
    assert code(await house.ask()) == (503, "quarantined")
    assert house.backend.prompts == []
    assert content(await house.ask(who="rita")) == content(await house.ask(who="otto")) == "Hello there, friend."
    house.switch.measures = NONE
    assert (await house.ask(who="rita")).status_code == 403


async def test_in_a_quarantine_nothing_that_was_held_is_delivered(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.under(review=True)
    await house.ask()
    [hold] = (await house.call("rita", "GET", "/v1/holds")).json()["data"]
    await house.call("rita", "POST", f"/v1/holds/{hold['id']}", {"outcome": "released", "note": "fine"})
    house.under(quarantined=True)
    assert code(await house.call("ann", "GET", f"/v1/holds/{hold['id']}")) == (503, "quarantined")


@pytest.mark.parametrize("who", ["ann", "otto"])
async def test_a_version_that_is_rolled_back_answers_nobody(tmp_path: Path, who: str) -> None:
    house = House(tmp_path)
    house.under(rolled_back=True, quarantined=True)
    assert code(await house.ask(who=who)) == (503, "rolled_back")


@MODES
@pytest.mark.parametrize(
    "measures",
    [{"degraded": True}, {"quarantined": True}, {"review": True}, {"enforce_shadows": True}, {"rolled_back": True}],
)
async def test_what_is_under_way_when_one_comes_ends_without_more_text(
    tmp_path: Path, stream: bool, measures: Mapping[str, Any]
) -> None:
    async def restrict() -> None:
        house.under(**measures)

    house = House(tmp_path, Scripted(before=restrict))
    answer = await house.ask(stream=stream)
    assert code(answer) == (503, "service_restricted")
    assert "Hello" not in answer.text


async def test_what_is_under_way_ends_whole_under_a_throttle_and_when_one_is_lifted(tmp_path: Path) -> None:
    async def throttle() -> None:
        house.under(requests_per_minute=1.0)

    house = House(tmp_path, Scripted(before=throttle))
    house.under(enforce_shadows=True)
    assert content(await house.ask()) == "Hello there, friend."


async def test_health_names_the_interventions_and_not_their_reasons(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.under(quarantined=True)
    answer = await house.call("ann", "GET", "/healthz")
    assert (answer.status_code, answer.json()["interventions"]) == (200, ["iv-1"])
