"""Twenty streams over sockets under the real control plane: all stop, and nothing is answered after."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import uvicorn

from raysafe.control.key_store import KeyStore
from raysafe.control.kill_orders import kill, restore
from raysafe.control.leases import await_seen
from raysafe.control.watch import ControlPlane
from raysafe.guards.policy import Policy
from raysafe.records.store import open_store
from raysafe.serving.control_room import ControlRoom
from raysafe.serving.gateway import Gateway
from raysafe.serving.settings import GatewaySettings
from tests.serving.conftest import MemoryAudit, Scripted

pytestmark = pytest.mark.serve
STREAMS = 20
LONG_S = 60.0
BODY = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Tell me a long story."}]}


@dataclass
class Reader:
    """What one client read, and how it ended."""

    pieces: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    whole: bool = False


@dataclass
class House:
    """A served gateway, its store and its streams under way."""

    url: str
    file: Path
    store_url: str
    headers: dict[str, str]
    plane: ControlPlane
    readers: list[Reader]

    def ask(self) -> int:
        body = BODY | {"stream": False, "max_tokens": 1}
        return httpx.post(
            f"{self.url}/v1/chat/completions", json=body, headers=self.headers, timeout=LONG_S
        ).status_code


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv("RAYSAFE_AUDIT", str(tmp_path / "audit"))
    file = tmp_path / "raysafe.db"
    store_url = f"sqlite:///{file}"
    with open_store(store_url) as store:
        _, secret = KeyStore(store, by="ada").make("tester")
    # an hour's worth of pieces: a stream that ends was stopped
    backend = Scripted("word " * 100_000, size=5, before=lambda: asyncio.sleep(0.02))
    plane = ControlPlane(store_url, "m")
    policy = {"name": "open", "stream_window": 1, "guards": []}
    settings = GatewaySettings(model="m", policy=Policy.parse(policy))
    app = Gateway(settings, backend, ControlRoom(MemoryAudit(), plane)).app()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    headers = {"Authorization": f"Bearer {secret}"}
    readers = [Reader() for _ in range(STREAMS)]
    with ThreadPoolExecutor(STREAMS) as pool:
        reading = [pool.submit(read, f"{url}/v1/chat/completions", headers, reader) for reader in readers]
        until(lambda: all(reader.pieces > 3 for reader in readers) or any(each.done() for each in reading))
        yield House(url, file, store_url, headers, plane, readers)
        server.should_exit = True
    thread.join(LONG_S)


def read(url: str, headers: dict[str, str], reader: Reader) -> None:
    try:
        with httpx.stream("POST", url, json=BODY, headers=headers, timeout=LONG_S) as response:
            for line in response.iter_lines():
                if line.startswith("data: {") and '"content"' in line:
                    reader.pieces += 1
                reader.whole = reader.whole or line == "data: [DONE]"
    finally:
        reader.ended.set()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.005)


def check_stopped(house: House) -> None:
    assert all(reader.ended.wait(LONG_S) for reader in house.readers)
    assert all(reader.pieces > 3 for reader in house.readers)
    assert not any(reader.whole for reader in house.readers)
    assert house.ask() == 503


def test_a_kill_stops_every_stream_and_later_requests_until_a_second_person_restores(house: House) -> None:
    with open_store(house.store_url) as store:
        _, number = kill(store, "m", by="ada", reason="drill")
        assert [stands for _, stands in await_seen(store, number)] == ["seen"]
        check_stopped(house)
        restore(store, "m", by="bo", reason="over")
        until(lambda: house.plane.closed is None)
        assert house.ask() == 200


def test_a_store_that_dies_stops_every_stream_and_later_requests(house: House) -> None:
    house.file.rename(house.file.with_suffix(".away"))
    until(lambda: house.plane.closed)
    check_stopped(house)
