"""Waiting one-shot sandboxes: used once, replaced, killed from outside, and gone with their pool."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raysafe.control.sandbox.opening import open_sandbox
from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.pool import Pool
from raysafe.control.sandbox.result import SandboxUnavailable

pytestmark = pytest.mark.usefixtures("isolation")

POLICY = Policy(memory_bytes=256 << 20, wall_seconds=20)


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(POLICY, 2) as made:
        yield made


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_waiting_sandbox_runs_a_job_and_is_replaced(pool: Pool) -> None:
    until(lambda: pool.waiting == 2)
    assert pool.run("print(6 * 7)").stdout == "42\n"
    until(lambda: pool.waiting == 2)


def test_no_sandbox_sees_what_another_left(pool: Pool) -> None:
    code = "import os\nprint(os.path.exists('left'))\nopen('left', 'w').write('x')\nopen('/tmp/left', 'w')"
    found = [pool.run(code) for _ in range(3)]
    assert [result.stdout for result in found] == ["False\n"] * 3
    assert all(set(result.files) == {"left"} for result in found)


def test_a_sandbox_takes_one_job(pool: Pool) -> None:
    from raysafe.control.sandbox.job import Job

    with open_sandbox(POLICY) as sandbox:  # type: ignore[attr-defined]
        sandbox.run(Job.of("pass"))
        with pytest.raises(SandboxUnavailable, match="had its job"):
            sandbox.run(Job.of("pass"))


def test_more_jobs_than_waiting_sandboxes_all_run(pool: Pool) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda at=at: found.append(pool.run(f"print({at})").stdout)) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [f"{at}\n" for at in range(6)]


def test_one_that_died_while_it_waited_is_passed_over(pool: Pool) -> None:
    until(lambda: pool.waiting == 2)
    for sandbox in list(pool._waiting):
        sandbox.kill()
    until(lambda: not any(sandbox.alive for sandbox in list(pool._waiting)))
    assert pool.run("print(1)").stdout == "1\n"


def test_a_cancelled_job_s_sandbox_is_killed(pool: Pool) -> None:
    async def work() -> float:
        task = asyncio.create_task(pool.arun("import time; time.sleep(15)"))
        while not pool._running:
            await asyncio.sleep(0.005)
        began = time.monotonic()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    assert asyncio.run(work()) < 10
    assert not pool._running


def test_jobs_beside_an_event_loop_run_at_the_same_time(pool: Pool) -> None:
    async def work() -> list[str]:
        # each waits for the other's beginning: one after the other, both would meet the wall limit
        found = await asyncio.gather(*(pool.arun("print(1)") for _ in range(4)))
        return [result.stdout for result in found]

    assert asyncio.run(work()) == ["1\n"] * 4


def test_an_error_reaches_the_one_who_asked(pool: Pool) -> None:
    from raysafe.errors import ConfigError

    with pytest.raises(ConfigError):
        asyncio.run(pool.arun([]))


def test_the_end_of_a_pool_ends_its_sandboxes_and_its_jobs() -> None:
    ended: list[int] = []
    with Pool(POLICY, 2) as pool:
        until(lambda: pool.waiting == 2)
        waiting = list(pool._waiting)
        thread = threading.Thread(target=lambda: ended.append(pool.run("import time; time.sleep(15)").exit_code))
        thread.start()
        until(lambda: bool(pool._running))
    thread.join()
    assert ended == [-signal.SIGKILL]
    assert not any(sandbox.alive for sandbox in waiting)
    with pytest.raises(SandboxUnavailable, match="closed"):
        pool.run("pass")


def test_no_isolation_means_no_pool() -> None:
    def refuses(policy: Policy) -> None:
        raise SandboxUnavailable("none here")

    with pytest.raises(SandboxUnavailable, match="none here"):
        Pool(POLICY, 1, refuses).start()  # type: ignore[arg-type]


def test_a_pool_leaves_no_descriptor_and_no_process() -> None:
    before = len(os.listdir("/proc/self/fd"))
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    with Pool(POLICY, 1) as pool:
        for _ in range(3):
            pool.run("pass")
    assert len(os.listdir("/proc/self/fd")) == before
    assert Path(f"/proc/self/task/{os.getpid()}/children").read_text() == children
