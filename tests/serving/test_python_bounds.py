"""What the tool `python` may take of a service: time, places, budgets; and what the monitor sees of it."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

import pytest

from raysafe.control.budgets import Granted
from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.pool import Pool
from raysafe.errors import ConfigError
from raysafe.serving.python_tool import PythonToolSettings
from tests.serving.conftest import make_desk
from tests.serving.programs import GRANTED, HELLO, Ran, Sandboxes, ask, both, code, desk_for

pytestmark = [pytest.mark.anyio, pytest.mark.serve, pytest.mark.usefixtures("isolation")]


class Noting:
    """A recorder that keeps what it is told."""

    def __init__(self) -> None:
        self.exchanges, self.notes = list[Any](), list[Any]()

    def gauge(self, figures: Any) -> None:
        return None

    def start(self) -> None:
        return None

    def stop(self) -> None:
        return None

    def ended(self, ended: Any) -> None:
        self.exchanges.append(ended)

    def note(self, metric: str, value: float) -> None:
        self.notes.append((metric, value))


@both
async def test_the_monitor_sees_all_rounds_as_one_exchange(stream: bool) -> None:
    recorder = Noting()
    desk, _ = desk_for(recorder=recorder, guards=[{"kind": "length", "output_characters": 500}])
    await ask(desk, stream)
    [ended] = recorder.exchanges
    assert ended.exchange.output == "Let me see.\nIt is 42." and ended.tokens == 24
    assert [call.name for call in ended.exchange.tool_calls] == ["python"]
    assert [verdict.stage for verdict in ended.exchange.verdicts].count("output") == 2
    assert recorder.notes == [("safety.sandbox_breaches", 0.0)]


@both
async def test_the_time_of_an_answer_is_that_of_all_its_rounds_and_runs(stream: bool) -> None:
    sandboxes = Sandboxes(lambda code: asyncio.sleep(30))
    desk, _ = desk_for(("", [code()]), sandboxes=sandboxes, request_timeout_s=0.2)
    async with desk.http as client:
        body = {"model": "m", "messages": HELLO, "stream": stream}
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 504 and sandboxes.killed
    assert desk.audit.rows[-1]["error"] == "TimeoutError"


async def test_programs_wait_for_a_place() -> None:
    running, most = 0, 0

    async def counts() -> Ran:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return Ran()

    sandboxes = Sandboxes(lambda code: counts())
    desk, _ = desk_for(("", [code()]), sandboxes=sandboxes, tool={"at_once": 2, "calls": 1})
    await asyncio.gather(*(ask(desk, False) for _ in range(5)))
    assert (most, len(sandboxes.codes)) == (2, 5)


async def test_a_client_that_goes_ends_the_run() -> None:
    sandboxes = Sandboxes(lambda code: asyncio.sleep(30))
    desk, _ = desk_for(sandboxes=sandboxes)
    task = asyncio.create_task(ask(desk, True))
    while not sandboxes.codes:
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert sandboxes.killed


class Counting:
    """Budgets that grant all, and note what was asked and settled."""

    def __init__(self) -> None:
        self.asked, self.settled = list[Any](), list[Any]()

    def reserve(self, limits: Any, amounts: Any) -> Any:
        future: Future[Any] = Future()
        self.asked.append(dict(amounts))
        future.set_result(Granted(()))
        return future

    def settle(self, granted: Any, actual: Any) -> None:
        self.settled.append(dict(actual))

    def close(self) -> None:
        return None


@both
async def test_each_round_draws_on_the_budgets(stream: bool) -> None:
    counters = Counting()
    granted = GRANTED.model_copy(update={"tokens_per_minute": 100_000})
    desk, _ = desk_for(granted=granted, counters=counters)
    await ask(desk, stream)
    assert len(counters.asked) == 2 and counters.asked[1]["tokens"] > counters.asked[0]["tokens"]
    assert [settled["tokens"] for settled in counters.settled] == [12, 12]


def test_settings_without_sandboxes_are_refused() -> None:
    with pytest.raises(ConfigError, match="python_tool needs sandboxes"):
        make_desk(python_tool=PythonToolSettings())


async def test_real_programs_run_in_real_sandboxes() -> None:
    policy = Policy(memory_bytes=256 << 20, wall_seconds=20)
    with Pool(policy, 1) as pool:
        desk, _ = desk_for(sandboxes=pool, tool={"policy": policy})  # type: ignore[arg-type]
        assert (await ask(desk, True))[0] == "Let me see.\n\nIt is 42."
        assert desk.backend.prompts[1].messages[-1].content == "exit code 0\nstdout:\n42\n"
        hostile = "import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0)"
        desk, _ = desk_for(("", [code(hostile)]), sandboxes=pool, tool={"policy": policy})  # type: ignore[arg-type]
        _, finish, refusal, _ = await ask(desk, False)
    assert finish == "content_filter" and "system call: ptrace" in refusal
