"""What goes wrong in service: a full disk, a killed gateway, crowds, slow clients, many gateways on one budget.

Gateways are processes of their own here, and real ones but for their model.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from raysafe.cli.main import main
from raysafe.control.key_store import KeyStore
from raysafe.records.audit_chain import SUFFIX, read_rows
from raysafe.records.audit_verify import verify
from raysafe.records.store import open_store
from tests.serving.station import station

pytestmark = [pytest.mark.serve, pytest.mark.anyio]
LONG_S = 60.0
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class Place:
    """A store with a key, and its audit log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"sqlite:///{folder}/store.db"
        with open_store(self.url) as store:
            self.headers = {"Authorization": f"Bearer {KeyStore(store).make('ann')[1]}"}

    def client(self, url: str) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(base_url=url, headers=self.headers, timeout=LONG_S, limits=limits)

    def rows(self) -> list[dict[str, Any]]:
        found = []
        for path in sorted((self.folder / "audit").glob(f"gateway-m*{SUFFIX}")):
            found += [row for _, row in read_rows(path) if row is not None]
        return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("RAYSAFE_STORE", f"sqlite:///{tmp_path}/store.db")
    monkeypatch.delenv("RAYSAFE_AUDIT", raising=False)
    monkeypatch.delenv("RAYSAFE_AUDIT_ANCHORS", raising=False)
    return Place(tmp_path)


async def lines(client: httpx.AsyncClient) -> AsyncIterator[str]:
    """The events of one streamed answer."""
    async with client.stream("POST", "/v1/chat/completions", json=BODY | {"stream": True}) as answer:
        if answer.status_code != 200:
            yield (await answer.aread()).decode()
            return
        async for line in answer.aiter_lines():
            if line:
                yield line


class Stream:
    """One streamed answer under way."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.events: list[str] = []
        self.task = asyncio.create_task(self._read(client))

    async def _read(self, client: httpx.AsyncClient) -> None:
        async for line in lines(client):
            self.events.append(line)


async def test_a_full_disk_closes_the_gateway_and_the_log_stays_whole(place: Place) -> None:
    with station(store=place.url, file_bytes=200_000) as (_, url):
        async with place.client(url) as client:
            statuses = [(await client.post("/v1/chat/completions", json=BODY)).status_code for _ in range(400)]
            answered = statuses.count(200)
            assert 0 < answered < 400 and set(statuses) == {200, 503}
            assert set(statuses[answered:]) == {503}, "once the log can't be written, nothing is answered"
    outputs = [row for row in place.rows() if row["kind"] == "verdict" and row["details"]["stage"] == "output"]
    assert len(outputs) == answered
    assert [problem for report in verify(place.folder / "audit") for problem in report.problems] == []


async def test_a_gateway_killed_while_it_writes_leaves_a_whole_log(place: Place) -> None:
    answered: list[str] = []

    async def ask(client: httpx.AsyncClient) -> None:
        while True:
            try:
                answer = await client.post("/v1/chat/completions", json=BODY)
            except httpx.TransportError:
                return
            if answer.status_code == 200:
                answered.append(answer.json()["id"])

    with station(store=place.url) as (process, url):
        async with place.client(url) as client:
            asking = [asyncio.create_task(ask(client)) for _ in range(16)]
            async with asyncio.timeout(LONG_S):
                while len(answered) < 50:
                    await asyncio.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
            async with asyncio.timeout(LONG_S):
                await asyncio.gather(*asking)
    assert await asyncio.to_thread(main, ["audit", "verify", "--folder", str(place.folder / "audit")]) == 0
    written = {row["subject"] for row in place.rows() if row["details"].get("stage") == "output"}
    assert len(answered) >= 50 and set(answered) <= written
    with station(store=place.url) as (_, url):
        async with place.client(url) as client:
            assert (await client.post("/v1/chat/completions", json=BODY)).status_code == 200
    assert await asyncio.to_thread(main, ["audit", "verify", "--folder", str(place.folder / "audit")]) == 0


async def test_two_hundred_streams_at_once_all_end(place: Place) -> None:
    with station(store=place.url, words=10, pause_s=0.2) as (_, url):
        async with place.client(url) as client:
            streams = [Stream(client) for _ in range(200)]
            async with asyncio.timeout(LONG_S):
                await asyncio.gather(*(stream.task for stream in streams))
    assert all(stream.events[-1] == "data: [DONE]" for stream in streams)
    assert all(text_of(stream) == "word " * 10 for stream in streams)


async def test_a_client_that_does_not_read_holds_up_nobody_else(place: Place) -> None:
    with station(store=place.url, words=200_000) as (_, url):
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 12)
        body = json.dumps(BODY | {"stream": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Authorization: {place.headers['Authorization']}\r\n\r\n".encode() + body)
        await reader.read(100)
        async with place.client(url) as client:
            for _ in range(20):
                assert (await client.post("/v1/chat/completions", json=BODY)).status_code == 200
        writer.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_budget_is_exact_over_three_gateways(place: Place, stream: bool) -> None:
    budget = {"subject": "key", "resource": "requests", "window": "total", "limit": 500}
    policy = {"guards": [{"kind": "capabilities", "budgets": [budget]}]}
    options: dict[str, Any] = {"store": place.url, "policy": policy, "words": 3}
    with station(**options) as (_, one), station(**options) as (_, two), station(**options) as (_, three):
        clients = [place.client(url) for url in (one, two, three)]
        gate = asyncio.Semaphore(100)

        async def ask(number: int) -> int:
            async with gate:
                answer = await clients[number % 3].post("/v1/chat/completions", json=BODY | {"stream": stream})
                return answer.status_code

        async with asyncio.timeout(LONG_S):
            statuses = await asyncio.gather(*(ask(number) for number in range(1000)))
        for client in clients:
            await client.aclose()
    assert (statuses.count(200), statuses.count(429)) == (500, 500)


def text_of(stream: Stream) -> str:
    bodies = [json.loads(line.removeprefix("data: ")) for line in stream.events if line.startswith("data: {")]
    return "".join(part["delta"].get("content") or "" for body in bodies for part in body.get("choices", ()))
