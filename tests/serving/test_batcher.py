"""Short work of many callers, done together over a worker that the test holds up."""

import asyncio
import threading
from typing import Any

import pytest

from raysafe.serving.backend import ModelFailed, Overloaded
from raysafe.serving.batcher import Batcher, asked

pytestmark = pytest.mark.anyio


class Held:
    """Doubles numbers when the test says so, and notes its batches."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        assert self.free.wait(30)
        return [2 * item for item in items]


async def until(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


@pytest.fixture
def held() -> Any:
    worker = Held()
    batcher = Batcher(worker, max_batch=3, max_waiting=3)
    yield worker, batcher
    worker.free.set()
    batcher.close()


async def test_what_waits_goes_together_and_a_long_list_holds_nobody_up(held: Any) -> None:
    worker, batcher = held
    tasks = [asyncio.create_task(batcher.ask([0]))]
    await until(lambda: worker.batches)
    for items in ([1], [2, 3, 4, 5, 6], [7]):
        tasks.append(asyncio.create_task(batcher.ask(items)))
        await asyncio.sleep(0)
    worker.free.set()
    assert await asyncio.gather(*tasks) == [[0], [2], [4, 6, 8, 10, 12], [14]]
    assert worker.batches == [[0], [1, 2, 3], [7, 4, 5], [6]]


async def test_a_full_queue_refuses(held: Any) -> None:
    worker, batcher = held
    first = asyncio.create_task(batcher.ask([0]))
    await until(lambda: worker.batches)
    tasks = [asyncio.create_task(batcher.ask([n])) for n in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await batcher.ask([9])
    worker.free.set()
    await asyncio.gather(first, *tasks)


async def test_who_has_gone_is_not_worked_for(held: Any) -> None:
    worker, batcher = held
    first = asyncio.create_task(batcher.ask([0]))
    await until(lambda: worker.batches)
    gone, stays = asyncio.create_task(batcher.ask([1])), asyncio.create_task(batcher.ask([2]))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    worker.free.set()
    assert (await first, await stays) == ([0], [4])
    assert worker.batches == [[0], [2]]


@pytest.mark.parametrize("work", [lambda items: 1 / 0, lambda items: []])
async def test_work_that_fails_or_forgets_an_item_fails_its_callers_and_not_the_next(work: Any) -> None:
    todo = [work, lambda items: items]
    batcher: Batcher[int, int] = Batcher(lambda items: todo.pop(0)(items), max_batch=3, max_waiting=3)
    with pytest.raises((ZeroDivisionError, RuntimeError)):
        await batcher.ask([1])
    assert await batcher.ask([1]) == [1]
    batcher.close()


async def test_who_waits_or_comes_once_it_is_closed_is_told_so(held: Any) -> None:
    worker, batcher = held
    under_way = asyncio.create_task(batcher.ask([0, 1, 2, 3]))
    await until(lambda: worker.batches)
    waits = asyncio.create_task(batcher.ask([4]))
    await asyncio.sleep(0)
    batcher.close()
    worker.free.set()
    for task in (under_way, waits):
        with pytest.raises(ModelFailed, match="has ended"):
            await asyncio.wait_for(task, 30)
    with pytest.raises(ModelFailed, match="has ended"):
        await batcher.ask([5])


async def test_of_nothing_nothing_comes(held: Any) -> None:
    worker, batcher = held
    worker.free.set()
    assert await batcher.ask([]) == []


async def test_a_models_error_is_told_by_its_name_alone() -> None:
    batcher: Batcher[int, int] = Batcher(lambda items: 1 / 0, max_batch=3, max_waiting=3)  # type: ignore[arg-type]
    with pytest.raises(ModelFailed, match=r"^ZeroDivisionError$"):
        await asked(batcher, [1])
    assert batcher.alive
    batcher.close()
