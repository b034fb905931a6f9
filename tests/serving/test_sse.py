"""Server-sent events: the parts that they are cut into don't matter, and everything is bounded."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.serving.sse import TooLong, events

pytestmark = pytest.mark.anyio


async def chunks(data: bytes, sizes: list[int]) -> AsyncIterator[bytes]:
    start = 0
    for size in sizes:
        yield data[start : start + size]
        start += size
    yield data[start:]


async def read(
    data: bytes, sizes: list[int] | None = None, event_bytes: int = 1000, stream_bytes: int = 10_000
) -> list:
    found = events(chunks(data, sizes or []), event_bytes=event_bytes, stream_bytes=stream_bytes)
    return [event async for event in found]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
async def test_events_are_those_of_the_standard(end: str, size: int) -> None:
    lines = [
        ": comment",
        "data: one",
        "",
        "event: x",
        "id: 1",
        "data:two",
        "data:  three",
        "",
        "",
        "data",
        "",
        "data: cut",
    ]
    data = "".join(line + end for line in lines).encode()
    assert await read(data, [size] * (len(data) // size)) == ["one", "two\n three", ""]


@given(st.binary(max_size=60).map(lambda raw: raw.replace(b"\xff", b"\ndata: x\n\n")), st.lists(st.integers(0, 9)))
async def test_cuts_change_nothing(data: bytes, sizes: list[int]) -> None:
    results = []
    for cut in ([], sizes):
        try:
            results.append(await read(data, cut))
        except UnicodeDecodeError:
            results.append(["no UTF-8"])
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"data: " + b"x" * 2000, "a line of more than 1,000 bytes"),
        (b"x" * 2000 + b"\n", "a line of more than 1,000 bytes"),
        (b"data: xxxxx\n" * 300, "an event of more than 1,000 bytes"),
        (b"data:\n" * 300, "an event of more than 1,000 bytes"),
        (b": keep alive\n" * 1000, "a stream of more than 10,000 bytes"),
        (b"\n" * 20_000, "a stream of more than 10,000 bytes"),
    ],
)
async def test_more_than_the_bounds_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(TooLong, match=message):
        await read(data, [7] * 500)


async def test_an_endless_line_in_small_parts_costs_linear_time() -> None:
    async def seconds(size: int) -> float:
        started = time.process_time()
        await read(b"data: " + b"x" * size + b"\n\n", [1] * size, 1 << 20, 1 << 20)
        return time.process_time() - started

    short, long = min([await seconds(5_000) for _ in range(3)]), min([await seconds(40_000) for _ in range(3)])
    assert long < 8 * short * 4
