"""The service behind HAProxy under load: what listens, and what is lost when something is replaced, killed, ended."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from raysafe.control.keys import new_key
from raysafe.errors import ConfigError
from raysafe.serving.application import Application, Placement, gateway_application
from raysafe.serving.deploy import Deployment, deploy
from raysafe.serving.drain import replicas
from raysafe.serving.ingress import haproxy_binary
from tests.serving.test_serve import application

WAIT_S = 300.0
serve_test = [pytest.mark.serve, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


class Running:
    """A deployed service and how to ask it."""

    def __init__(self, application: Application, deployment: Deployment, secret: str) -> None:
        self.application, self.deployment = application, deployment
        self.headers = {"Authorization": f"Bearer {secret}"}

    def ask(self, client: httpx.Client, stream: bool = False, max_tokens: int = 8) -> int:
        """The status of one request: 503 too where a stream that had begun ends with a server's error, 599 where an
        answer just breaks off."""
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": max_tokens}
        options: Any = {"json": body | {"stream": stream, "temperature": 1.5}, "headers": self.headers}
        url = f"{self.deployment.url}/v1/chat/completions"
        with client.stream("POST", url, timeout=WAIT_S, **options) as answer:
            text = b"".join(answer.iter_bytes())
            whole = b"data: [DONE]" in text and b'"error"' not in text if stream else b"choices" in text
            if whole or answer.status_code != 200:
                return answer.status_code
            return 503 if b'"type":"server_error"' in text.rpartition(b"data: ")[2] else 599

    @contextmanager
    def load(self, clients: int = 4, streams: bool = True) -> Iterator[Counter[int]]:
        """Whole answers, and streams too, until the block ends; yields how many had which status, 0 for none."""
        found: Counter[int] = Counter()
        ended = threading.Event()

        def client(number: int) -> None:
            with httpx.Client() as http:
                while not ended.is_set():
                    try:
                        found[self.ask(http, stream=streams and bool(number % 2))] += 1
                    except httpx.RemoteProtocolError as error:
                        assert "without sending a response" in str(error)
                        found[0] += 1

        threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield found
        finally:
            ended.set()
            for thread in threads:
                thread.join(WAIT_S)

    def load_over_a_kill(self, title: str) -> Counter[int]:
        """Statuses before, while and after the one replica of this title is killed and comes back."""
        with self.load() as found:
            wait_until(lambda: found.total() >= 8, "the first answers")
            (pid,) = replica_pids(title)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: found.total() - found[200] > 0, "an answer that says so")
            answered = found[200]
            wait_until(lambda: found[200] >= answered + 8, "the return of what was killed")
        return found


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} didn't happen"
        time.sleep(0.1)


def replica_pids(title: str) -> list[int]:
    """Processes of Serve's replicas of one application and deployment, below this one."""
    below = psutil.process_iter(["cmdline"])
    ours = {child.pid for child in psutil.Process().children(recursive=True)}
    named = [child.pid for child in below if f"ray::ServeReplica:{title}" in " ".join(child.info["cmdline"] or ())]
    return [pid for pid in named if pid in ours]


@pytest.fixture(scope="module")
def running(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    from raysafe.models.language import load_policy, load_tokenizer, save_policy

    if haproxy_binary() is None:
        pytest.skip("no HAProxy on this machine")
    folder = tmp_path_factory.mktemp("tiny")
    save_policy(load_policy("preset:tiny"), load_tokenizer("preset:tiny"), folder / "model")
    key, secret = new_key("tester")
    made = application(folder / "model", key, folder / "rows.jsonl", {"guards": []})
    deployment = deploy(made, Placement(port=0, way_in="haproxy"))
    yield Running(made, deployment, secret)
    deployment.stop(now=True)


class TestBehindHaproxy:
    pytestmark = serve_test

    def test_nothing_but_loopback_answers_http(self, running: Running) -> None:
        ours = {
            process.pid
            for process in psutil.Process().children(recursive=True)
            if any(name in " ".join(process.cmdline()) for name in ("haproxy", "ray::Serve", "ray::Proxy"))
        }
        listening = [
            connection.laddr
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.pid in ours
        ]
        answering = [address for address in listening if _answers_http(address.port)]
        assert {address.ip for address in answering} == {"127.0.0.1"}
        assert int(running.deployment.url.rsplit(":", 1)[1]) in {address.port for address in answering}

    def test_no_port_leads_to_the_model_past_the_gateway(self, running: Running) -> None:
        (pid,) = replica_pids("tiny-model:model")
        listening = [c.laddr.port for c in psutil.Process(pid).net_connections("tcp") if c.status == "LISTEN"]
        assert not any(_answers_http(port) for port in listening)

    def test_no_request_is_lost_while_the_gateway_is_replaced(self, running: Running) -> None:
        from ray import serve

        gateway = running.application.gateway.model_copy(update={"body_bytes": 1 << 19})
        changed = gateway_application(replace(running.application, gateway=gateway), Placement(port=0))
        before = set(replicas("tiny"))
        with running.load() as found:
            wait_until(lambda: found.total() >= 8, "the first answers")
            serve.run(changed, name="tiny", route_prefix="/")
            wait_until(lambda: not before & set(replicas("tiny")), "the end of the old gateway")
            answered = found.total()
            wait_until(lambda: found.total() >= answered + 8, "an answer of the new gateway")
        assert set(found) == {200}

    def test_a_killed_model_costs_5xx_only_and_comes_back(self, running: Running) -> None:
        found = running.load_over_a_kill("tiny-model:model")
        assert all(status == 200 or 500 <= status < 599 for status in found), dict(found)

    def test_a_killed_gateway_costs_no_answer_that_had_not_begun(self, running: Running) -> None:
        """HAProxy asks again, of Serve's own proxy until the gateway is back. A stream that had begun breaks off."""
        with running.load(streams=False) as found:
            wait_until(lambda: found.total() >= 8, "the first answers")
            before = replica_pids("tiny:gateway")
            os.kill(before[0], signal.SIGKILL)
            wait_until(lambda: bool(set(replica_pids("tiny:gateway")) - set(before)), "another gateway")
            answered = found.total()
            wait_until(lambda: found.total() >= answered + 8, "answers of the new gateway")
        assert all(status == 200 or 500 <= status < 599 for status in found), dict(found)

    def test_what_is_under_way_ends_before_the_service_does(self, running: Running) -> None:
        told: list[int] = []
        found: list[int] = []
        lost: list[str] = []

        def long(number: int) -> None:
            with httpx.Client() as http:
                found.append(running.ask(http, stream=bool(number % 2), max_tokens=1000))

        def refused() -> bool:
            try:
                return httpx.get(f"{running.deployment.url}/healthz", timeout=5).status_code == 503
            except httpx.HTTPError as error:
                lost.append(type(error).__name__)
                return False

        threads = [threading.Thread(target=long, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        drain = threading.Thread(target=running.deployment.drain, args=(told.append,))
        drain.start()
        wait_until(refused, "a refusal of what is new")
        for thread in (*threads, drain):
            thread.join(WAIT_S)
        assert found == [200] * 4 and told and not lost
        assert not running.deployment.running


def _answers_http(port: int) -> bool:
    """Whether what listens at a port of this machine speaks HTTP/1.1."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.settimeout(3)
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        try:
            return connection.recv(16).startswith(b"HTTP/1.")
        except OSError:
            return False


def test_fewer_gateways_under_load_than_without_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_gateways must be at least gateways"):
        Placement(gateways=3, max_gateways=2)


def test_gateways_scale_with_what_is_under_way(tmp_path: Path) -> None:
    made = application(tmp_path, new_key("k")[0], "unused", {"guards": []})
    front = gateway_application(made, Placement(gateways=2, max_gateways=5))._bound_deployment
    scale = front._deployment_config.autoscaling_config
    assert (scale.min_replicas, scale.max_replicas) == (2, 5)


def test_a_gateway_is_given_longer_to_end_than_any_request_takes(tmp_path: Path) -> None:
    made = application(tmp_path, new_key("k")[0], "unused", {"guards": []})
    front = gateway_application(made, Placement())._bound_deployment
    gateway = made.gateway
    longest = gateway.body_timeout_s + gateway.request_timeout_s
    assert front._deployment_config.graceful_shutdown_timeout_s > longest
