"""The server as a process: what it printed, what a kill leaves, and what it refuses to start with."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import httpx
import pytest

from raysafe.errors import ConfigError, ResourceError, StorageError
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
