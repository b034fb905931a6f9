"""The scheduler over a real engine, and over a pool that the test steps."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from raysafe.errors import ModelError
from raysafe.models.generate.engine import Generation, SamplingParams
from raysafe.models.generate.rows import Row
from raysafe.models.generate.scheduler import QueueFull, Scheduler, Update
from raysafe.models.generate.transformers_engine import TransformersEngine
from tests.models.test_engine import TOKENIZER, restless_policy

ENGINE = TransformersEngine(restless_policy(), TOKENIZER)
GREEDY = SamplingParams(max_tokens=20, temperature=0)


class Inbox:
    """A sink that a test waits on."""

    def __init__(self) -> None:
        self.updates: list[Update] = []
        self._come: queue.Queue[Update] = queue.Queue()

    def __call__(self, update: Update) -> None:
        self.updates.append(update)
        self._come.put(update)

    def next(self) -> Update:
        return self._come.get(timeout=30)

    def end(self) -> Any:
        while (update := self.next()).end is None:
            pass
        return update.end


class HandPool:
    """Room for two rows; a step happens when the test lets it, and writes one token into each row."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.let = threading.Semaphore(0)
        self.stepped = threading.Semaphore(0)
        self.fail: list[Row] = []

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        taken = list(rows)[: 2 - len(self.rows)]
        self.rows += taken
        return taken

    def drop(self, rows: Sequence[Row]) -> None:
        self.rows = [row for row in self.rows if row not in rows]

    def step(self) -> list[tuple[Row, Exception]]:
        assert self.let.acquire(timeout=30)
        for row in self.rows:
            row.tokens.append(65 + 3)
            if row.writer is not None:
                row.writer.write(65 + 3)
            if len(row.tokens) == row.limit:
                row.finish = "length"
        self.rows = [row for row in self.rows if row.finish is None and row not in self.fail]
        self.stepped.release()
        failed, self.fail = self.fail, []
        return [(row, RuntimeError("no memory")) for row in failed]


@pytest.fixture
def by_hand() -> Any:
    pool = HandPool()
    scheduler = Scheduler(pool, TOKENIZER, context=64, max_waiting=2)
    yield pool, scheduler
    pool.let.release(1000)
    scheduler.close()


def test_whole_and_streamed_answers_of_many_callers_are_those_of_the_engine() -> None:
    scheduler = Scheduler(ENGINE.pool(4), TOKENIZER, context=64, max_waiting=99)
    asks = []
    for n in range(10):
        sampling = SamplingParams(max_tokens=15 + n, seed=n, temperature=n % 2, stop=("e",) * (n % 3 == 0))
        inbox = Inbox()
        scheduler.submit([n + 5] * (n + 1), sampling, inbox, stream=n % 2 == 0)
        asks.append((n, sampling, inbox))
    for n, sampling, inbox in asks:
        (alone,) = ENGINE.generate([[n + 5] * (n + 1)], sampling)
        end = inbox.end()
        assert (end.tokens, end.text, end.finish_reason) == (alone.tokens, alone.text, alone.finish_reason)
        texts = [update.text for update in inbox.updates]
        assert "".join(texts) == alone.text
        assert len(texts) > 1 or n % 2 == 1 or len(alone.text) < 2
    scheduler.close()


def test_a_whole_answer_is_told_once(by_hand: Any) -> None:
    pool, scheduler = by_hand
    inbox = Inbox()
    scheduler.submit([5], SamplingParams(max_tokens=3), inbox, stream=False)
    pool.let.release(3)
    inbox.end()
    assert len(inbox.updates) == 1


def test_a_full_queue_refuses_and_what_leaves_it_makes_room(by_hand: Any) -> None:
    pool, scheduler = by_hand
    inboxes = [Inbox() for _ in range(4)]
    for inbox in inboxes[:2]:
        scheduler.submit([5], SamplingParams(max_tokens=2), inbox)
    pool.let.release(1)
    pool.stepped.acquire(timeout=30)
    waiting = [scheduler.submit([5], SamplingParams(max_tokens=2), inbox) for inbox in inboxes[2:]]
    with pytest.raises(QueueFull):
        scheduler.submit([5], GREEDY, Inbox())
    scheduler.cancel(waiting[0])
    pool.let.release(9)
    assert isinstance(inboxes[3].end(), Generation)
    assert inboxes[2].updates == []


def test_a_cancelled_row_is_free_at_the_next_token_and_its_sink_hears_no_more(by_hand: Any) -> None:
    pool, scheduler = by_hand
    inboxes = [Inbox() for _ in range(3)]
    tickets = [scheduler.submit([5], SamplingParams(max_tokens=4), inbox) for inbox in inboxes[:2]]
    pool.let.release(1)
    first = inboxes[0].next()
    scheduler.cancel(tickets[0])
    scheduler.submit([5], SamplingParams(max_tokens=1), inboxes[2])
    pool.let.release(2)
    assert isinstance(inboxes[2].end(), Generation), "it has the place of the row that was cancelled"
    assert inboxes[0].updates == [first]


def test_a_row_that_fails_tells_its_own_caller(by_hand: Any) -> None:
    pool, scheduler = by_hand
    good, bad = Inbox(), Inbox()
    scheduler.submit([5], SamplingParams(max_tokens=3), good)
    ticket = scheduler.submit([5], SamplingParams(max_tokens=3), bad)
    pool.let.release(1)
    bad.next()
    pool.fail = [ticket.row]
    pool.let.release(3)
    assert isinstance(bad.end(), RuntimeError) and isinstance(good.end(), Generation)


def test_a_sink_that_raises_ends_its_own_answer_only(by_hand: Any) -> None:
    pool, scheduler = by_hand
    calls = []

    def broken(update: Update) -> None:
        calls.append(update)
        raise RuntimeError("the event loop is closed")

    scheduler.submit([5], SamplingParams(max_tokens=5), broken)
    good = Inbox()
    scheduler.submit([5], SamplingParams(max_tokens=5), good)
    pool.let.release(9)
    assert isinstance(good.end(), Generation)
    assert len(calls) == 1


def test_a_pool_that_breaks_tells_everybody_and_takes_no_more() -> None:
    pool = HandPool()
    pool.step = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    scheduler = Scheduler(pool, TOKENIZER, context=64, max_waiting=2)
    inbox = Inbox()
    scheduler.submit([5], GREEDY, inbox)
    assert isinstance(inbox.end(), ZeroDivisionError)
    scheduler.close()
    assert not scheduler.alive
    with pytest.raises(ModelError, match="failed for good"):
        scheduler.submit([5], GREEDY, inbox)


def test_a_prompt_without_room_is_refused_at_once(by_hand: Any) -> None:
    with pytest.raises(ModelError, match="has 64 tokens, the model takes 64"):
        by_hand[1].submit([5] * 64, GREEDY, Inbox())


def test_closing_tells_those_who_still_wait() -> None:
    scheduler = Scheduler(ENGINE.pool(1), TOKENIZER, context=64, max_waiting=9)
    inboxes = [Inbox() for _ in range(5)]
    for inbox in inboxes:
        scheduler.submit([5], SamplingParams(max_tokens=60, temperature=0), inbox)
    scheduler.close()
    assert any(isinstance(inbox.end(), ModelError) for inbox in inboxes)
