"""Releases of a stream: the first in company, later ones by window and by time, and none that isn't needed."""

from __future__ import annotations

import asyncio

import pytest

from raysafe.serving.outlet import Outlet

pytestmark = pytest.mark.anyio


class Released:
    """Notes what each release is given, and ends when it is told to."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.free = asyncio.Event()

    async def _leave(self) -> None:
        await self.free.wait()

    def __call__(self, text: str) -> asyncio.Future[None]:
        self.texts.append(text)
        return asyncio.ensure_future(self._leave())


async def first_has_left(outlet: Outlet, released: Released) -> None:
    released.free.set()
    outlet.offer("Good")
    await until_released(released, 1)
    await outlet.settle()


async def until_released(released: Released, count: int) -> None:
    async with asyncio.timeout(10):
        while len(released.texts) < count:
            await asyncio.sleep(0.001)


async def test_what_is_cleared_while_the_first_text_waits_leaves_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysafe.serving.outlet._FIRST_WAITS_S", 0.1)
    released = Released()
    async with Outlet(100, 60.0, released) as outlet:
        outlet.offer("Good")
        for _ in range(5):
            await asyncio.sleep(0)
        outlet.offer(" day.")
        assert released.texts == []
        await until_released(released, 1)
        assert released.texts == ["Good day."] and outlet.sent == 9
        outlet.offer(" More")
        released.free.set()
        await outlet.settle()
        assert outlet.take_rest() == " More" and released.texts == ["Good day."]


async def test_an_answer_that_ends_at_once_needs_no_release() -> None:
    released = Released()
    async with Outlet(100, 60.0, released) as outlet:
        outlet.offer("Good")
        outlet.offer(" day.")
        assert outlet.take_rest() == "Good day." and outlet.sent == 0
        await outlet.settle()
        await asyncio.sleep(0.01)
    assert released.texts == []


async def test_a_release_under_way_is_no_rest() -> None:
    released = Released()
    async with Outlet(100, 60.0, released) as outlet:
        outlet.offer("Good")
        await until_released(released, 1)
        assert outlet.take_rest() == ""
        released.free.set()
        await outlet.settle()
    assert outlet.sent == 4


async def test_later_text_leaves_by_the_window_and_a_release_is_begun_at_once() -> None:
    released = Released()
    async with Outlet(10, 60.0, released) as outlet:
        await first_has_left(outlet, released)
        outlet.offer("123456789")
        assert released.texts == ["Good"] and not outlet.due(0) and outlet.due(1)
        outlet.offer("0")
        assert released.texts == ["Good", "1234567890"]


async def test_a_slow_models_text_leaves_by_the_interval() -> None:
    released = Released()
    async with Outlet(1000, 0.01, released) as outlet:
        await first_has_left(outlet, released)
        await asyncio.sleep(0.02)
        outlet.offer(" day.")
        assert released.texts == ["Good", " day."]
