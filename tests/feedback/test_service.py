"""The server as a process: what it printed, what a kill leaves, and what it refuses to start with."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from raysafe.errors import ConfigError, ResourceError, StorageError
from raysafe.feedback import server, service
from raysafe.feedback.project import open_judgements
from raysafe.feedback.service import FeedbackConfig, FeedbackService, is_loopback
from tests.feedback.conftest import pair, write_items
from tests.feedback.serving import Server


@pytest.fixture
def items(tmp_path: Path) -> Path:
    return write_items(tmp_path / "in", [pair(index) for index in range(2000)])


@pytest.fixture
def config(tmp_path: Path) -> FeedbackConfig:
    file = write_items(tmp_path / "in", [pair(0), pair(1, rewards_a=[0, 3], rewards_b=[3, 0]), {"answer": "x"}])
    return FeedbackConfig(items=str(file), out=str(tmp_path / "out"), port=0)


@pytest.mark.serve
def test_a_killed_server_loses_nothing_that_it_acknowledged(items: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    kept: dict[str, list[str]] = {"ann": [], "bob": []}
    enough = threading.Event()

    def work(client: httpx.Client, name: str) -> None:
        try:
            shown = client.get("/api/turn").json()["item"]["name"]
            while True:
                said = client.post("/api/judgements", json={"item": shown, "choice": "tie", "seconds": 0.5})
                said.raise_for_status()
                kept[name].append(shown)
                shown = said.json()["item"]["name"]
                if len(kept[name]) > 40:
                    enough.set()
        except httpx.TransportError:
            return

    with Server(items, out, "--raters", "ann", "bob", "--overlap", "0.5") as server:
        tokens = server.tokens
        threads = [threading.Thread(target=work, args=(server.client(tokens[name]), name)) for name in kept]
        for thread in threads:
            thread.start()
        assert enough.wait(60)
        server.process.kill()
        for thread in threads:
            thread.join(60)
    store, judgements = open_judgements(out)
    with store:
        for name, acknowledged in kept.items():
            found = [j.item for j in judgements.all() if j.rater == name]
            # one more may have been written when its answer was lost
            assert found[: len(acknowledged)] == acknowledged and len(found) - len(acknowledged) in (0, 1)
    with Server(items, out, "--raters", "ann", "bob", "--overlap", "0.5") as server:
        assert server.tokens == {}
        turn = server.client(tokens["ann"]).get("/api/turn").json()
        assert turn["done"] >= len(kept["ann"]) and turn["item"]["name"] not in kept["ann"]


@pytest.mark.serve
def test_a_token_is_printed_once_and_no_request_is_logged(items: Path, tmp_path: Path) -> None:
    with Server(items, tmp_path / "out") as server:
        token = server.tokens["rater"]
        client = server.client(token)
        assert client.get("/api/turn").status_code == 200
        assert client.get(f"/?token={token}").status_code == 200
        rest = server.end()
    assert "".join(server.said).count(token) == 1 and token not in rest and "/api" not in rest
    assert server.process.returncode == 0 and "raysafe feedback export" in rest


def test_active_order_starts_where_the_ensemble_disagrees(config: FeedbackConfig) -> None:
    with FeedbackService(config.model_copy(update={"order": "active"})) as service:
        assert next(iter(service.desk.items)) == "q1"
        assert len(service.desk.items) == 3


def test_a_second_start_goes_on_without_new_tokens_unless_they_are_renewed(config: FeedbackConfig) -> None:
    with FeedbackService(config) as service:
        assert set(service.links) == {"rater"} and "/#token=" in service.links["rater"]
        assert service.new_items == 3
    with FeedbackService(config) as service:
        assert service.links == {} and service.new_items == 0
    with FeedbackService(config.model_copy(update={"renew": ("rater",)})) as service:
        assert set(service.links) == {"rater"}


def test_one_server_a_folder(config: FeedbackConfig) -> None:
    with FeedbackService(config), pytest.raises(StorageError, match=r"is served already, by process \d+"):
        FeedbackService(config)
    with FeedbackService(config):
        pass


def test_a_taken_port_is_one_sentence_and_leaves_the_folder_free(config: FeedbackConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=f"can't listen on 127.0.0.1 port {port}"):
            FeedbackService(config.model_copy(update={"port": port}))
    with FeedbackService(config):
        pass


def test_renewing_a_stranger_is_refused(config: FeedbackConfig) -> None:
    with pytest.raises(ConfigError, match="renew names 'eve'"):
        FeedbackService(config.model_copy(update={"renew": ("eve",)}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_are_let_in_only_on_purpose(host: str) -> None:
    with pytest.raises(ConfigError, match=f"host {host} is reached from other machines.*TLS"):
        FeedbackConfig(items="x.jsonl", host=host)
    assert FeedbackConfig(items="x.jsonl", host=host, allow_remote=True).host == host


def test_loopback_is_what_only_this_machine_reaches() -> None:
    assert [is_loopback(h) for h in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4


def test_reward_models_without_the_active_order_are_refused() -> None:
    with pytest.raises(ConfigError, match="reward_models has no effect on order 'given'"):
        FeedbackConfig(items="x.jsonl", reward_models=("a", "b"))


def order(config: FeedbackConfig, **fields: Any) -> list[str]:
    with FeedbackService(config.model_copy(update=fields)) as service:
        return list(service.desk.items)


def test_the_measure_decides_what_disagreement_is(tmp_path: Path) -> None:
    # all members are sure of the first pair, by gaps that differ; the second they see in opposite ways
    rows = [pair(0, rewards_a=[9, 99], rewards_b=[0, 0]), pair(1, rewards_a=[0, 3], rewards_b=[3, 0])]
    config = FeedbackConfig(items=str(write_items(tmp_path / "in", rows)), out=str(tmp_path / "out"), port=0)
    assert order(config, order="active", measure="spread") == ["q0", "q1"]
    assert order(config, order="active", measure="bald") == ["q1", "q0"]


def test_the_reward_models_that_are_named_are_asked(config: FeedbackConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(service, "disagreement", lambda items, *how: asked.append(how) or {"q1": 1.0})
    assert order(config, order="active", reward_models=("one", "two"))[0] == "q1"
    assert asked == [("bald", ("one", "two"))]


def test_a_random_order_is_the_seeds(tmp_path: Path) -> None:
    file = str(write_items(tmp_path / "in", [pair(index) for index in range(9)]))
    one, other, again = (
        order(FeedbackConfig(items=file, out=str(tmp_path / out), port=0, order="random", seed=seed))
        for out, seed in (("1", 1), ("2", 2), ("3", 1))
    )
    assert one == again != other and sorted(one) == sorted(other)


def test_the_desk_and_the_page_are_made_as_the_settings_say(
    config: FeedbackConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[Any] = []
    monkeypatch.setattr(server, "create_app", lambda desk, **more: pages.append((desk, more)))
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: None)
    with FeedbackService(config.model_copy(update={"per_item": 3, "question": "Which is kinder?"})) as made:
        made.serve()
        assert made.desk.wanted == 3
        assert pages == [(made.desk, {"folder": Path(config.items).parent, "question": "Which is kinder?"})]
