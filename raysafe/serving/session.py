"""One request from admission to answer: guards, model and audit log in the order that keeps them honest.

The rule: a decision's audit row is durable before the first byte of its effect leaves. Rows are committed while the
model works, so that the client seldom waits for the disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from raysafe.errors import StorageError
from raysafe.guards.admission import Admission
from raysafe.guards.decision import Decision
from raysafe.guards.guard import Exchange, Stage, Verdict
from raysafe.monitoring.observation import Ended
from raysafe.monitoring.recorder import Recorder
from raysafe.serving.backend import Backend, NotOffered, Overloaded, PromptRefused
from raysafe.serving.crowd import Crowd
from raysafe.serving.door import Door
from raysafe.serving.health import Health
from raysafe.serving.holding import HoldDesk
from raysafe.serving.ledger import Ledger
from raysafe.serving.metrics import Metrics, Outcome
from raysafe.serving.python_tool import PythonTool
from raysafe.serving.refusals import guard_failed, model_error, refusal
from raysafe.serving.spending import Spending
from raysafe.serving.standing import Standing
from raysafe.serving.wire.errors import ApiError

T = TypeVar("T")
ADMISSION_WAITS_S = 0.001
"""How long the row of an admission waits for the answer's at most."""
Put = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True)
class Post:
    """What every session at one gateway shares."""

    backend: Backend
    metrics: Metrics
    door: Door
    crowd: Crowd
    health: Health
    holds: HoldDesk
    timeout_s: float
    recorder: Recorder | None = None
    python: PythonTool | None = None
    """The tool that the gateway runs itself."""
    version: str | None = None
    """Of the registered model that answers, as name:number."""


class Session:
    """A request that has been authenticated and parsed. Its kinds are writing.py and answering.py."""

    stream_mode = False
    observed = True
    """Whether the safety monitor is told of its end."""

    def __init__(self, post: Post, standing: Standing, exchange: Exchange) -> None:
        self._post, self._standing, self._exchange = post, standing, exchange
        self._pipeline = standing.pipeline
        self._started = time.perf_counter()
        self._admission: Future[Any] | None = None
        self._admitted: tuple[Decision, asyncio.TimerHandle] | None = None
        """What the admission's row is still to be written of, and the clock that writes it."""
        self._beside: asyncio.Task[None] | None = None
        """The guards that run beside the model: done, without an error, where they let the request pass."""
        self._outcome: Outcome = "failed"
        self._spending: Spending | None = None
        self._tokens: int | None = None
        """What the answer took, once that is known."""
        self._model_s = 0.0
        self._work_ends: float | None = None
        """When the time for the model's work is over; its clock runs from its beginning."""
        self._wrote = False
        """Whether the model has begun to answer: then even a refusal of its own is paid for."""

    @property
    def _ledger(self) -> Ledger:
        """Rows stand in the order of decisions: the admission's is written before any other."""
        self._record_admission()
        return self._standing.ledger

    def _record_admission(self) -> None:
        """Hand the admission's row over, where that is still to be done; raises StorageError."""
        if self._admitted is not None:
            decision, clock = self._admitted
            clock.cancel()
            self._admission = self._standing.ledger.decided(self._exchange, decision)
            self._admitted = None

    def _try_to_record(self) -> None:
        """An error is told by the next that needs the row."""
        with suppress(StorageError):
            self._record_admission()

    @property
    def headers(self) -> dict[str, str]:
        """The id under a name of our own, for proxies send an X-Request-Id too; and as that where none was given."""
        given = {} if self._exchange.trace else {"X-Request-Id": self._exchange.request_id}
        return {"X-RaySafe-Id": self._exchange.request_id, **given}

    async def _admit(self) -> None:
        """Input guards; raises the ApiError of a refusal once its row is durable. An admission's row commits later.

        Guards that run beside the model start here; `_durable` waits for them.
        """
        admission = self._pipeline.admission(self._exchange)
        decision = await self._guarded(admission.first, admission.inline)
        if not decision.stopped_by and (refused := await self._set_aside()) is not None:
            self._exchange.verdicts.append(refused)
            decision = Decision("input", (*decision.verdicts, refused), decision.not_run)
        if not decision.stopped_by:
            await self._use_release()
        if admission.waits and not decision.stopped_by:
            self._beside = asyncio.create_task(self._decide_beside(admission))
            return
        later(self._post.metrics.decided, decision)
        # one commit serves this row and the answer's, where the model answers at once
        clock = asyncio.get_running_loop().call_later(ADMISSION_WAITS_S, self._try_to_record)
        self._admitted = decision, clock
        if decision.stopped_by:
            await self._refuse(decision)

    async def _use_release(self) -> None:
        """A release lets one request pass; raises ApiError where another one was faster, and nothing is charged."""
        try:
            await self._post.holds.use_up(self._exchange)
        except ApiError:
            if self._spending is not None:
                self._spending.give_back()
                self._spending = None
            raise

    async def _decide_beside(self, admission: Admission) -> None:
        """The decision of all input guards; raises the ApiError of a refusal once its row is durable."""
        decision = await asyncio.to_thread(admission.rest)
        later(self._post.metrics.decided, decision)
        self._admission = self._ledger.decided(self._exchange, decision)
        if decision.stopped_by:
            await self._refuse(decision)

    async def _refuse(self, decision: Decision) -> NoReturn:
        self._record_admission()
        await self._rows(self._admission)
        assert decision.stopped_by is not None
        self._outcome = "limited" if decision.stopped_by.category in ("rate", "budget") else "input_blocked"
        raise refusal(decision, await self._keep(decision))

    async def _keep(self, decision: Decision, finish: str = "stop", counts: tuple[int, int] = (0, 0)) -> str | None:
        """Keep what a guard held for a reviewer; its id."""
        return await self._post.holds.keep(self._exchange, decision, finish, counts)

    async def _set_aside(self) -> Verdict | None:
        """Draw on the budgets; the verdict where one of them, or their failure, stops the request."""
        self._spending = self._standing.spending(self._exchange)
        if self._spending is None:
            return None
        try:
            return await self._spending.reserve()
        except StorageError as error:
            return self._spending.failed(error)

    async def _check(self, stage: Stage) -> Decision:
        """The stage's guards over whole texts, counted."""
        pipeline = self._pipeline
        decision = await self._guarded(lambda: pipeline.check(self._exchange, stage), pipeline.inline_at(stage))
        later(self._post.metrics.decided, decision)
        return decision

    def _stopped(self, decision: Decision) -> None:
        """Count a stopped answer; raises ApiError where it was a guard's failure that stopped it, not the answer."""
        verdict = decision.stopped_by
        if verdict is not None and verdict.category == "error":
            raise guard_failed(verdict.reason)
        self._outcome = "output_blocked"

    async def _guarded(self, work: Callable[[], T], inline: bool) -> T:
        """Guards that may wait run in a thread, so that they hold up their own request only."""
        return work() if inline else await asyncio.to_thread(work)

    async def _durable(self, *rows: Future[Any] | None) -> None:
        """Wait until something may leave: for the guards beside the model, the admission's row, and these rows.

        Raises ApiError where the request is refused, 503 where a row can't be written or the door has closed.
        """
        if self._beside is not None:
            await asyncio.shield(self._beside)
        self._record_admission()
        await self._rows(self._admission, *rows)
        self._post.door.check()
        self._post.door.check_unchanged(self._standing.measures)

    async def _rows(self, *rows: Future[Any] | None) -> None:
        try:
            # the last first: rows are committed in order, so that its end is mostly that of all
            for row in reversed(rows):
                if row is not None and row.done():
                    # no turn of the event loop for what is known
                    row.result()
                elif row is not None:
                    # shielded: a client that goes must not cancel the writer's row
                    await asyncio.shield(asyncio.wrap_future(row))
            self._post.health.audit = True
        except Exception as error:
            self._post.health.audit = False
            raise ApiError(
                503, f"the audit log can't be written: {type(error).__name__}", kind="server_error", code="audit_failed"
            ) from error

    def _left_s(self) -> float:
        """What is left of the time for the model's work, with the tools that it calls."""
        now = time.perf_counter()
        if self._work_ends is None:
            self._work_ends = now + self._post.timeout_s
        return max(0.0, self._work_ends - now)

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        """The time limit of the model's work, and its errors as ApiErrors, once the admission's row is durable.

        It ends too where a guard beside the model stops the request.
        """
        started, limit_s = time.perf_counter(), self._left_s()
        if self._spending is not None and self._spending.model_seconds:
            limit_s = min(limit_s, self._spending.model_seconds)
        try:
            async with asyncio.timeout(limit_s) as clock:
                if self._beside is not None:
                    self._beside.add_done_callback(lambda task: _cut(task, clock))
                yield
            self._model_s = time.perf_counter() - started
        except ApiError:
            raise
        except Exception as error:
            # an error is an answer too: it tells that the request was admitted
            await self._durable()
            known = model_error(error, limit_s)
            if known is None:
                raise
            refused = isinstance(error, PromptRefused | Overloaded | NotOffered)
            if self._spending is not None and refused and not self._wrote:
                self._spending.give_back()
                self._spending = None
            if isinstance(error, PromptRefused):
                self._outcome = "refused"
            raise known from error

    def _ended(self, seconds: float) -> Ended:
        """The exchange for the safety monitor."""
        return Ended(self._exchange, self._outcome, seconds, self._model_s, self._tokens)

    @asynccontextmanager
    async def _accounted(self) -> AsyncIterator[None]:
        self._post.metrics.under_way.inc()
        try:
            with self._post.crowd.one_more():
                yield
        except asyncio.CancelledError:
            self._outcome = "cancelled"
            raise
        finally:
            self._try_to_record()
            if self._spending is not None:
                self._spending.settle(self._tokens, self._model_s)
            if self._beside is not None:
                self._beside.add_done_callback(_seen)
            self._post.metrics.under_way.dec()
            later(self._tell_end, time.perf_counter() - self._started)

    def _tell_end(self, seconds: float) -> None:
        self._post.metrics.ended(self.stream_mode, self._outcome, seconds)
        if self.observed and self._post.recorder is not None:
            self._post.recorder.ended(self._ended(seconds))


def later(tell: Callable[..., None], *args: object) -> None:
    """Counting holds up no answer: it is done at the event loop's next turn, as while a row is being committed."""
    asyncio.get_running_loop().call_soon(tell, *args)


def _cut(beside: asyncio.Task[None], clock: asyncio.Timeout) -> None:
    """End the model's work where the guards beside it have stopped the request, or failed."""
    if (beside.cancelled() or beside.exception() is not None) and not clock.expired():
        # a clock whose work has ended can't be set any more
        with suppress(RuntimeError):
            clock.reschedule(asyncio.get_running_loop().time())


def _seen(beside: asyncio.Task[None]) -> None:
    """The request is over: an error of its guards has been told, or there is nobody to tell."""
    if not beside.cancelled():
        beside.exception()
