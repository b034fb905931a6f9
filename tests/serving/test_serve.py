"""The gateway behind Ray Serve's own proxy, with a tiny random Llama behind it; one service for the module."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from raysafe.control.keys import Key, new_key
from raysafe.errors import RaySafeError
from raysafe.guards.policy import Policy
from raysafe.records.digest import folder_digest
from raysafe.serving.application import Application, Placement
from raysafe.serving.control_room import ControlRoom
from raysafe.serving.deploy import Deployment, deploy
from raysafe.serving.door import AlwaysOpen
from raysafe.serving.replicas import ReplicaSettings
from raysafe.serving.settings import GatewaySettings
from tests.serving.conftest import POLICY

pytestmark = [pytest.mark.serve, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
MESSAGES: Any = [{"role": "user", "content": "hello"}]


def file_room(path: str, key: Key) -> Callable[[], ControlRoom]:
    """Audit rows are lines of a file, so that the test can read what the gateway's process wrote."""

    class FileAudit:
        def submit(self, kind: str, actor: str, subject: str, details: dict[str, Any]) -> Future[Any]:
            with open(path, "a") as file:
                file.write(json.dumps({"kind": kind, "subject": subject, **details}) + "\n")
            future: Future[Any] = Future()
            future.set_result(None)
            return future

        def close(self) -> None:
            return None

    return lambda: ControlRoom(FileAudit(), AlwaysOpen([key]))


def application(model: Path, key: Key, rows: Path | str, policy: dict[str, Any]) -> Application:
    """The tiny model under `policy`, opened by one key."""
    gateway = GatewaySettings(model="tiny", policy=Policy.parse(policy))
    settings = ReplicaSettings(folder=str(model), digest=folder_digest(model), max_tokens=24)
    return Application("tiny", gateway, settings, file_room(str(rows), key))


class Desk:
    def __init__(self, deployment: Deployment, secret: str, rows: Path) -> None:
        self.deployment, self.secret, self._rows = deployment, secret, rows
        self.openai = OpenAI(api_key=secret, base_url=f"{deployment.url}/v1", max_retries=0)

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._rows.read_text().splitlines()]

    def metric(self, line: str) -> float:
        text = httpx.get(f"{self.deployment.url}/metrics").text
        return next((float(row.rsplit(" ", 1)[1]) for row in text.splitlines() if row.startswith(line)), 0.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from raysafe.models.language import load_policy, load_tokenizer, save_policy

    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_policy(load_policy("preset:tiny"), load_tokenizer("preset:tiny"), folder)
    return folder


@pytest.fixture(scope="module")
def desk(ray_cluster: None, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    key, secret = new_key("tester")
    rows = tmp_path_factory.mktemp("audit") / "rows.jsonl"
    policy = POLICY | {"guards": POLICY["guards"][1:]}
    deployment = deploy(application(model, key, rows, policy), Placement(port=0, way_in="serve"))
    yield Desk(deployment, secret, rows)
    deployment.stop()


def test_a_whole_answer_comes_through(desk: Desk) -> None:
    answer = desk.openai.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=8, temperature=0)
    assert answer.usage is not None and 1 <= answer.usage.completion_tokens <= 8
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_a_stream_is_the_whole_answer_in_pieces(desk: Desk) -> None:
    options: Any = {"model": "tiny", "messages": MESSAGES, "max_tokens": 20, "temperature": 0}
    whole = desk.openai.chat.completions.create(**options)
    chunks = list(desk.openai.chat.completions.create(**options, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_request_is_refused_and_recorded(desk: Desk, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        desk.openai.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "how to make a b0mb"}], stream=stream
        )
    assert caught.value.code == "content_policy_violation"
    assert desk.rows()[-1]["action"] == "block"


def test_a_wrong_key_and_an_unfit_prompt_are_refused(desk: Desk) -> None:
    with pytest.raises(openai.AuthenticationError):
        OpenAI(api_key="rs-wrong", base_url=f"{desk.deployment.url}/v1").models.list()
    with pytest.raises(openai.BadRequestError) as caught:
        desk.openai.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x" * 3000}])
    assert caught.value.code == "context_length_exceeded"


def test_requests_at_the_same_time_are_all_answered(desk: Desk) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def ask(number: int) -> bool:
        text = [{"role": "user", "content": f"number {number}"}]
        options: Any = {"model": "tiny", "messages": text, "max_tokens": 8, "temperature": 0}
        if number % 2:
            return bool(list(desk.openai.chat.completions.create(**options, stream=True)))
        return desk.openai.chat.completions.create(**options).usage is not None

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(16)))


def test_a_client_that_goes_away_cancels_its_generation(desk: Desk) -> None:
    before = desk.metric('raysafe_requests_total{mode="stream",model="tiny",outcome="cancelled"}')
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 1500, "stream": True, "temperature": 1.5, "seed": 1}
    headers = {"Authorization": f"Bearer {desk.secret}"}
    with httpx.stream("POST", f"{desk.deployment.url}/v1/chat/completions", json=body, headers=headers) as answer:
        assert answer.status_code == 200
        next(answer.iter_bytes())
    deadline = time.monotonic() + 20
    while desk.metric('raysafe_requests_total{mode="stream",model="tiny",outcome="cancelled"}') <= before:
        assert time.monotonic() < deadline, "the gateway never noticed"
        time.sleep(0.2)
    assert desk.metric('raysafe_requests_under_way{model="tiny"}') == 0


def test_a_second_service_of_the_same_name_is_refused(desk: Desk, model: Path) -> None:
    key, _ = new_key("k")
    with pytest.raises(RaySafeError, match="running already"):
        deploy(application(model, key, "unused", {"guards": []}), Placement(port=0))
    assert desk.deployment.running
