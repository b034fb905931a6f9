"""A policy behind the gateway: what /v1/act answers, what its guards and orders stop, and who may not be served."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from scipy.special import softmax

from raysafe.control.key_store import KeyStore
from raysafe.control.kill_orders import kill, restore
from raysafe.control.watch import ControlPlane
from raysafe.errors import NotApproved
from raysafe.guards.policy import Policy as GuardPolicy
from raysafe.models.mlp import DiscreteHead, Mlp, MlpConfig
from raysafe.oversight.review import decide
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.registry import Registry
from raysafe.records.store import open_store
from raysafe.rl.policy import BoxSpace, DiscreteSpace, ObservedRange, Policy, PolicyCard, save_policy
from raysafe.serving.control_room import ControlRoom
from raysafe.serving.gateway import Gateway
from raysafe.serving.local import load_backend
from raysafe.serving.replicas import ReplicaSettings
from raysafe.serving.service import ServiceConfig, plan_service
from raysafe.serving.settings import GatewaySettings
from tests.serving.conftest import Desk, MemoryAudit, make_desk
from tests.serving.test_holds import HOLD, House
from tests.serving.test_interventions import House as OrderlyHouse

pytestmark = [pytest.mark.anyio, pytest.mark.serve]
CARD = PolicyCard(
    env="raysafe/SafeExploration-v0",
    algorithm="PPO",
    observations=BoxSpace(shape=(3,), low=(-5.0, -5.0, None), high=(5.0, 5.0, None)),
    actions=DiscreteSpace(n=3),
    distribution="categorical",
    observed=ObservedRange(low=(-1.0, -1.0, -1.0), high=(2.0, 2.0, 2.0), observations=1000),
)
EDGE: dict[str, Any] = {"kind": "action", "rules": [{"when": [{"feature": 0, "at_least": 1.0}], "forbid": [0]}]}
ASKED: dict[str, Any] = {"model": "m", "observations": [[0.0, 0.5, 0.0], [1.5, 1.0, 0.0]]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A policy whose logits are its observations: of the two in ASKED, it takes 1 and 0."""
    network = Mlp(MlpConfig(inputs=3, head=DiscreteHead(actions=3)))
    network.load_state_dict({"layers.0.weight": torch.eye(3), "layers.0.bias": torch.zeros(3)})
    save_policy(Policy(network, CARD), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def backend(folder: Path) -> Iterator[Any]:
    backend = load_backend(ReplicaSettings(folder=str(folder)))
    yield backend
    backend.close()


async def seen(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def act(desk: Desk, **change: Any) -> httpx.Response:
    async with desk.http as client:
        return await client.post("/v1/act", json={**ASKED, **change})


async def test_an_answer_has_actions_and_probabilities_and_the_version(backend: Any) -> None:
    desk = make_desk(backend, {"guards": []}, version="cartpole:3")
    body = (await act(desk)).json()
    assert (body["object"], body["model"], body["version"], body["actions"]) == ("actions", "m", "cartpole:3", [1, 0])
    assert body["probabilities"] == [pytest.approx(list(softmax(row))) for row in ASKED["observations"]]
    assert body["id"] == desk.audit.rows[-1]["subject"] and body["id"].startswith("act-")
    assert "values" not in body


async def test_a_seed_repeats_what_was_drawn(backend: Any) -> None:
    desk = make_desk(backend, {"guards": []})
    given = {"observations": [[0.0, 0.0, 0.0]] * 40, "deterministic": False}
    answers = [(await act(desk, **given, seed=seed)).json()["actions"] for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]
    assert set(answers[0]) == {0, 1, 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observations": [[0.0, 1.0]]}, "3 numbers, got 2"),
        ({"observations": [[0.0, 1.0, 0.0], [9.0, 0.0, 0.0]]}, "number 0 is 9, outside -5 to 5"),
        ({"observations": [["a", 1.0, 0.0]]}, "observations.0.0"),
        ({"observations": []}, "observations"),
        ({"observation": [0.0, 1.0, 0.0]}, "'observation' isn't supported"),
        ({"seed": 3}, "no effect on deterministic actions"),
        ({"deterministic": False, "seed": -1}, "seed"),
    ],
)
async def test_what_is_no_observation_of_the_policy_is_refused_with_one_sentence(
    backend: Any, change: dict[str, Any], message: str
) -> None:
    answer = await act(make_desk(backend, {"guards": []}), **change)
    assert answer.status_code == 400 and message in answer.json()["error"]["message"]


async def test_a_number_that_is_not_finite_is_refused(backend: Any) -> None:
    desk = make_desk(backend, {"guards": []})
    async with desk.http as client:
        for text in ("NaN", "Infinity", "1e999"):
            body = f'{{"model": "m", "observations": [[{text}, 0, 0]]}}'
            assert (await client.post("/v1/act", content=body)).status_code == 400


async def test_a_shield_masks_an_action_and_the_log_says_so(backend: Any) -> None:
    desk = make_desk(backend, {"guards": [{**EDGE, "action": "modify"}]})
    assert (await act(desk)).json()["actions"] == [1, 1]
    row = desk.audit.rows[-1]
    assert (row["stage"], row["action"], row["tools"]) == ("tool_call", "modify", ["act", "act"])
    assert row["verdicts"][0]["reason"] == "1 of 2 actions forbidden by the rule number 1"


async def test_a_shield_that_blocks_lets_no_action_leave(backend: Any) -> None:
    answer = await act(make_desk(backend, {"guards": [EDGE]}))
    assert answer.status_code == 403 and "actions" not in answer.json()


async def test_a_shield_that_fails_closes(backend: Any) -> None:
    beyond = {"kind": "action", "rules": [{"when": [{"feature": 7, "at_least": 1.0}], "forbid": [0]}]}
    answer = await act(make_desk(backend, {"guards": [beyond]}))
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "guard_failed"


async def test_a_policy_is_not_asked_outside_of_what_it_was_trained_on(backend: Any, folder: Path) -> None:
    desk = make_desk(backend, {"guards": [{"kind": "action", "range_of": str(folder)}]})
    assert (await act(desk)).status_code == 200
    stopped = await act(desk, observations=[[2.5, 0.0, 0.0]])
    assert stopped.status_code == 400 and "outside the range" in stopped.json()["error"]["message"]


async def test_a_held_action_is_delivered_with_its_scores_once_released(backend: Any, tmp_path: Path) -> None:
    house = House(tmp_path, [{**EDGE, "action": "hold"}], backend, version="p:1")
    held = await house.call("ann", "POST", "act", ASKED)
    assert held.status_code == 403 and "actions" not in held.json()
    await house.decide(held.headers[HOLD])
    body = (await house.call("ann", "GET", f"holds/{held.headers[HOLD]}")).json()
    assert (body["actions"], body["version"], body["object"]) == ([1, 0], "p:1", "actions")
    assert body["probabilities"][0] == pytest.approx(list(softmax(ASKED["observations"][0])))


async def test_a_rate_guard_counts_observations_too(backend: Any) -> None:
    characters = sum(len(json.dumps(each)) for each in ASKED["observations"])
    desk = make_desk(backend, {"guards": [{"kind": "rate", "characters_per_minute": characters}]})
    assert [(await act(desk)).status_code for _ in range(2)] == [200, 429]


async def test_in_a_quarantine_a_user_gets_no_action(backend: Any, tmp_path: Path) -> None:
    house = OrderlyHouse(tmp_path, backend=backend)
    assert (await house.call("ann", "POST", "/v1/act", ASKED)).status_code == 200
    house.under(quarantined=True)
    stopped = await house.call("ann", "POST", "/v1/act", ASKED)
    assert (stopped.status_code, stopped.json()["error"]["code"]) == (503, "quarantined")


async def test_a_kill_order_stops_actions_until_a_second_person_restores(
    backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSAFE_AUDIT", str(tmp_path / "audit"))
    url = f"sqlite:///{tmp_path / 'raysafe.db'}"
    with open_store(url) as store:
        _, secret = KeyStore(store, by="ada").make("tester")
    plane = ControlPlane(url, "m")
    settings = GatewaySettings(model="m", policy=GuardPolicy.parse({"guards": []}))
    app = Gateway(settings, backend, ControlRoom(MemoryAudit(), plane)).app()
    desk = Desk(app, backend, MemoryAudit(), secret)
    async with app.router.lifespan_context(app):
        await seen(lambda: plane.closed is None)
        answer = await act(desk)
        assert answer.status_code == 200, answer.text
        for order, person, status in ((kill, "ada", 503), (restore, "bo", 200)):
            with open_store(url) as store:
                order(store, "m", by=person, reason="drill")
            await seen(lambda closed=status == 503: (plane.closed is not None) is closed)
            answer = await act(desk)
            assert answer.status_code == status, answer.text


def test_an_unapproved_policy_is_refused_and_an_approved_one_planned(folder: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'raysafe.db'}"
    config = ServiceConfig(model="grid", store=url, port=0)
    with open_store(url) as store:
        Registry(store).register(folder, name="grid")
        with pytest.raises(NotApproved, match="has not been reviewed"):
            plan_service(config)
        with AuditLog(audit_folder(url), writer="review", unique=True) as audit:
            decide(store, audit, "grid", "approved", reviewer="ada", reason="shielded")
    plan = plan_service(config)
    assert plan.application.gateway.version == "grid:1"
    (folder / "policy.json").write_text((folder / "policy.json").read_text().replace("PPO", "DQN"))
    with pytest.raises(Exception, match="has changed since it was registered"):
        plan_service(config)
