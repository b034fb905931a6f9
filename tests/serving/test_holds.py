"""What a guard holds waits for another person, and leaves once that person has released it: nothing else, once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event, update

from raysafe.control.capabilities import Capabilities
from raysafe.control.holds import Holds
from raysafe.control.keys import KeyRing, new_key
from raysafe.guards.policy import Policy
from raysafe.records.hold_table import HoldRow
from raysafe.records.store import open_store
from raysafe.serving.control_room import ControlRoom
from raysafe.serving.gateway import Gateway
from raysafe.serving.settings import GatewaySettings
from tests.serving.conftest import TOOLS, Calling, MemoryAudit, Scripted
from tests.serving.test_door import Switch
from tests.serving.test_matrix import BODIES, Model
from tests.serving.test_spending import MESSAGES

pytestmark = [pytest.mark.anyio, pytest.mark.serve]
HOLD = "X-RaySafe-Hold"


def phrases(phrase: str, action: str, name: str = "phrases", *stages: str) -> dict[str, Any]:
    rules = [{"name": "r", "phrases": [phrase]}]
    return {"kind": "patterns", "name": name, "action": action, "stages": stages or ["input", "output"], "rules": rules}


class House:
    """A gateway over a store, and people with keys."""

    def __init__(self, folder: Path, guards: list[dict[str, Any]], backend: Any = None, **settings: Any) -> None:
        self.store = open_store(f"sqlite:///{folder}/store.db")
        self.holds = Holds(self.store, folder / "audit")
        self.backend, self.audit, switch = backend or Scripted(), MemoryAudit(), Switch()
        people = {"ann": ("acme", "user"), "rita": ("acme", "reviewer"), "otto": ("", "operator")}
        people |= {"bob": ("acme", "user"), "eve": ("evil", "reviewer")}
        made = {name: new_key(name, tenant or "default", (scope,)) for name, (tenant, scope) in people.items()}  # type: ignore[arg-type]
        switch.keys = KeyRing(key for key, _ in made.values())
        self._secrets = {name: secret for name, (_, secret) in made.items()}
        values = GatewaySettings(model="m", policy=Policy.parse({"stream_window": 1, "guards": guards}), **settings)
        self.app = Gateway(values, self.backend, ControlRoom(self.audit, switch, None, self.holds)).app()

    async def call(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        headers |= {"Authorization": f"Bearer {self._secrets[who]}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
            return await client.request(method, f"/v1/{path}", json=body)

    async def ask(self, text: str = "hi", who: str = "ann", stream: bool = False, **headers: str) -> httpx.Response:
        body = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}
        return await self.call(who, "POST", "chat/completions", body, **headers)

    async def decide(self, hold_id: str, outcome: str = "released", who: str = "rita") -> httpx.Response:
        return await self.call(who, "POST", f"holds/{hold_id}", {"outcome": outcome, "note": "I looked"})


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path


async def test_a_held_request_is_read_by_a_reviewer_and_passes_once_when_released(folder: Path) -> None:
    house = House(folder, [phrases("bomb", "hold")])
    held = await house.ask("what is a bomb?")
    hold_id = held.headers[HOLD]
    assert held.status_code == 400 and hold_id in held.json()["error"]["message"]
    waiting = (await house.call("rita", "GET", "holds")).json()["data"]
    assert [(hold["id"], hold["key"], hold["guard"]) for hold in waiting] == [(hold_id, "ann", "phrases")]
    shown = (await house.call("rita", "GET", f"holds/{hold_id}")).json()
    assert (shown["status"], shown["texts"]) == ("pending", ["what is a bomb?"])
    assert (await house.ask("what is a bomb?", **{HOLD: hold_id})).status_code == 409
    assert (await house.decide(hold_id)).json()["outcome"] == "released"
    assert (await house.ask("what is a bomb??", **{HOLD: hold_id})).status_code == 409
    assert (await house.ask("what is a bomb?", "bob", **{HOLD: hold_id})).status_code == 409
    assert house.backend.prompts == []
    assert (await house.ask("what is a bomb?", **{HOLD: hold_id})).status_code == 200
    assert (await house.ask("what is a bomb?", **{HOLD: hold_id})).status_code == 409
    passed = next(row for row in house.audit.rows if row.get("stage") == "input" and row["action"] == "allow")
    assert passed["verdicts"][0]["reason"] == "held, and released by rita"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_held_answer_is_delivered_once_released_and_not_before(folder: Path, stream: bool) -> None:
    house = House(folder, [phrases("friend", "hold")])
    answer = await house.ask(stream=stream)
    assert "friend" not in answer.text
    [hold] = house.holds.list()
    pending = (await house.call("ann", "GET", f"holds/{hold.id}")).json()
    assert pending["status"] == "pending" and "texts" not in pending
    await house.decide(hold.id)
    delivered = (await house.call("ann", "GET", f"holds/{hold.id}")).json()
    assert delivered["choices"][0]["message"]["content"] == "Hello there, friend."
    assert (delivered["object"], delivered["usage"]["prompt_tokens"]) == ("chat.completion", 7)
    assert house.audit.rows[-1]["delivered"] is True


async def test_a_refused_hold_stays_closed(folder: Path) -> None:
    house = House(folder, [phrases("friend", "hold")])
    await house.ask()
    [hold] = house.holds.list()
    await house.decide(hold.id, "refused")
    assert (await house.call("ann", "GET", f"holds/{hold.id}")).json()["status"] == "refused"
    assert (await house.decide(hold.id)).status_code == 409, "a decision stands"


async def test_guards_after_the_one_that_held_still_judge(folder: Path) -> None:
    guards = [phrases("friend", "hold", "first"), phrases("hello", "block", "second", "output")]
    house = House(folder, guards)
    await house.ask()
    [hold] = house.holds.list()
    assert hold.guard == "first"
    await house.decide(hold.id)
    delivered = await house.call("ann", "GET", f"holds/{hold.id}")
    assert delivered.status_code == 403 and "'second'" in delivered.json()["error"]["message"]


async def test_a_second_guard_may_hold_what_the_first_let_go(folder: Path) -> None:
    house = House(folder, [phrases("friend", "hold", "first"), phrases("hello", "hold", "second", "output")])
    await house.ask()
    [first] = house.holds.list()
    await house.decide(first.id)
    second = (await house.call("ann", "GET", f"holds/{first.id}")).headers[HOLD]
    assert second == f"{first.id}.2"
    await house.decide(second)
    delivered = (await house.call("ann", "GET", f"holds/{second}")).json()
    assert delivered["choices"][0]["message"]["content"] == "Hello there, friend."


async def test_an_action_waits_for_its_approval(folder: Path) -> None:
    """Autonomy 1: act after approval."""
    granted = Capabilities(tools=("lookup",), autonomy=1)
    house = House(folder, [], Model(), granted=granted)
    answer = await house.call("ann", "POST", "chat/completions", {"model": "m", **BODIES["tools"]})
    assert "tool_calls" not in answer.json()["choices"][0]["message"]
    [hold] = house.holds.list()
    assert (await house.call("rita", "GET", f"holds/{hold.id}")).json()["texts"] == [
        '{"query": "find SECRET-1234 now"}'
    ]
    await house.decide(hold.id)
    choice = (await house.call("ann", "GET", f"holds/{hold.id}")).json()["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "lookup"
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Let me see.", "tool_calls")


@pytest.mark.parametrize(("who", "status"), [("ann", 403), ("bob", 403), ("eve", 404), ("otto", 200), ("rita", 200)])
async def test_who_may_decide(folder: Path, who: str, status: int) -> None:
    house = House(folder, [phrases("friend", "hold")])
    await house.ask()
    [hold] = house.holds.list()
    assert (await house.decide(hold.id, who=who)).status_code == status
    assert (house.holds.released(hold.id) is not None) is (status == 200)


async def test_nobody_sees_anothers_hold(folder: Path) -> None:
    house = House(folder, [phrases("friend", "hold")])
    await house.ask()
    [hold] = house.holds.list()
    assert (await house.call("bob", "GET", f"holds/{hold.id}")).status_code == 404
    assert (await house.call("eve", "GET", "holds")).json()["data"] == []


@pytest.mark.parametrize("change", [{"outcome": "released", "reviewer": "rita"}, {"audit_hash": "0" * 64}])
async def test_who_writes_the_store_alone_releases_nothing(folder: Path, change: dict[str, Any]) -> None:
    house = House(folder, [phrases("friend", "hold")])
    await house.ask()
    [hold] = house.holds.list()
    if "audit_hash" in change:
        await house.decide(hold.id)
    with house.store.session() as session:
        session.execute(update(HoldRow).values(**change))
    assert house.holds.released(hold.id) is None
    assert "choices" not in (await house.call("ann", "GET", f"holds/{hold.id}")).json()


async def test_what_expires_is_forgotten(folder: Path) -> None:
    house = House(folder, [phrases("friend", "hold")], hold_hours=1e-9)
    await house.ask()
    await house.ask()
    kept = house.holds.list(pending=False)
    assert house.holds.list() == [] and kept[0].held is None
    assert (await house.decide(kept[0].id)).status_code == 409


async def test_a_gateway_has_what_nobody_decided_on_written_down(folder: Path) -> None:
    house = House(folder, [phrases("friend", "hold")], hold_hours=1e-9)
    await house.ask()
    async with house.app.router.lifespan_context(house.app):
        for _ in range(200):
            [hold] = house.holds.list(pending=False)
            if hold.audit_hash is not None:
                break
            await asyncio.sleep(0.05)
    assert hold.audit_hash is not None and hold.outcome is None and hold.held is None


async def test_a_hold_that_cannot_be_kept_is_a_refusal(folder: Path, monkeypatch: Any) -> None:
    from raysafe.errors import StorageError

    def fail(*given: Any, **more: Any) -> None:
        raise StorageError("disk full")

    house = House(folder, [phrases("friend", "hold")])
    monkeypatch.setattr(house.holds, "put", fail)
    answer = (await house.ask()).json()["choices"][0]
    assert (answer["finish_reason"], answer["message"]["content"]) == ("content_filter", "")
    assert "held for review by" in answer["message"]["refusal"]


async def test_what_guards_remember_of_a_request_is_kept_with_its_answer(folder: Path) -> None:
    """The guard that restores what it replaced comes after the one that held the answer."""
    guards = [phrases("friend", "hold"), {"kind": "pii", "entities": ["email"]}, {"kind": "canary"}]
    house = House(folder, guards, Scripted("Dear friend, I wrote to <EMAIL_1>."))
    await house.ask("please write to ann@example.com")
    [hold] = house.holds.list()
    await house.decide(hold.id)
    delivered = (await house.call("ann", "GET", f"holds/{hold.id}")).json()
    assert delivered["choices"][0]["message"]["content"] == "Dear friend, I wrote to ann@example.com."


async def test_of_two_requests_with_one_release_one_passes(folder: Path) -> None:
    house = House(folder, [phrases("bomb", "hold")])
    hold_id = (await house.ask("a bomb")).headers[HOLD]
    await house.decide(hold_id)
    answers = await asyncio.gather(*(house.ask("a bomb", **{HOLD: hold_id}) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert len(house.backend.prompts) == 1


async def test_a_release_is_for_the_roles_that_were_held(tmp_path: Path) -> None:
    house = House(tmp_path, [phrases("bomb", "hold")])
    hold_id = (await house.ask("a bomb: obey me")).headers[HOLD]
    await house.decide(hold_id)
    release: Any = {HOLD: hold_id}
    body = {"model": "m", "messages": [{"role": "system", "content": "a bomb: obey me"}]}
    assert (await house.call("ann", "POST", "chat/completions", body, **release)).status_code == 409
    assert (await house.ask("a bomb: obey me", **release)).status_code == 200


async def test_a_delivered_call_keeps_to_what_its_request_asked_for(tmp_path: Path) -> None:
    guards = [phrases("secret", "hold"), {"kind": "capabilities"}]
    house = House(tmp_path, guards, Calling(q="the secret"))
    body = {"model": "m", "messages": MESSAGES, "tools": TOOLS}
    asked = {"X-RaySafe-Capabilities": '{"tools": []}'}
    await house.call("ann", "POST", "chat/completions", body, **asked)
    [hold] = house.holds.list()
    await house.decide(hold.id)
    assert (await house.call("ann", "GET", f"holds/{hold.id}")).status_code == 403


async def test_an_answer_held_twice_may_be_asked_for_again(tmp_path: Path) -> None:
    house = House(tmp_path, [phrases("friend", "hold", "first"), phrases("hello", "hold", "second", "output")])
    await house.ask()
    [first] = house.holds.list()
    await house.decide(first.id)
    found = [await house.call("ann", "GET", f"holds/{first.id}") for _ in "12"]
    assert [(answer.status_code, answer.headers.get(HOLD)) for answer in found] == [(403, f"{first.id}.2")] * 2


async def test_one_key_cannot_fill_the_store_with_holds(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("raysafe.control.holds.MOST_OF_ONE_KEY", 3, raising=False)
    house = House(tmp_path, [phrases("bomb", "hold")])
    for _ in range(5):
        await house.ask("a bomb")
    assert len(house.holds.list()) == 3
    await house.ask("a bomb", "bob")
    assert len(house.holds.list()) == 4


async def test_keeping_a_hold_does_not_write_the_expired_ones_anew(tmp_path: Path) -> None:
    house = House(tmp_path, [phrases("bomb", "hold")], hold_hours=1e-9)
    written: list[int] = []

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if statement.startswith("UPDATE holds"):
            written.append(cursor.rowcount)

    for _ in range(3):
        await house.ask("a bomb")
    event.listen(house.store.engine, "after_cursor_execute", note)
    await house.ask("a bomb")
    assert sum(written) <= 2


async def test_what_a_reviewer_reads_of_a_hold_is_in_the_audit_log(tmp_path: Path) -> None:
    house = House(tmp_path, [phrases("friend", "hold")])
    await house.ask()
    [hold] = house.holds.list()
    before = len(house.audit.rows)
    assert "texts" in (await house.call("otto", "GET", f"holds/{hold.id}")).json()
    row = house.audit.rows[before]
    assert (row["actor"], row["subject"]) == ("otto", hold.id)


async def test_a_refused_request_does_not_use_up_its_release(tmp_path: Path) -> None:
    house = House(tmp_path, [{"kind": "rate", "requests_per_minute": 1}, phrases("bomb", "hold")])
    hold_id = (await house.ask("a bomb")).headers[HOLD]
    await house.decide(hold_id)
    release: Any = {HOLD: hold_id}
    assert (await house.ask("a bomb", **release)).status_code == 429
    kept = house.holds.get(hold_id)
    assert kept is not None and kept.used is None


async def test_a_note_that_a_store_may_refuse_reaches_no_log(tmp_path: Path) -> None:
    """PostgreSQL takes no NUL; the audit log, which is written first, does."""
    house = House(tmp_path, [phrases("friend", "hold")])
    await house.ask()
    [hold] = house.holds.list()
    said = {"outcome": "released", "note": "I\x00looked\nat it"}
    assert (await house.call("rita", "POST", f"holds/{hold.id}", said)).status_code == 400
    assert not list((tmp_path / "audit").glob("holds*"))
