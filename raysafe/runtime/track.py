"""Experiment tracking: a run's rows, settings and status also go to W&B or MLflow, from the driver.

Each tracker is fed by a thread of its own: one that is slow or fails costs a sentence and an event in events.jsonl,
never the training.
"""

from __future__ import annotations

import os
import queue
import re
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

from raysafe.errors import RaySafeError
from raysafe.runtime.run import Run
from raysafe.runtime.trackers import CLOSE_TIMEOUT_S, TRACKERS, About, Ending, Row, Tracker, TrackerName

NOTICE_S = 3.0
REASON_LENGTH = 200


@contextmanager
def tracked(run: Run, names: Sequence[TrackerName], project: str | None = None) -> Iterator[None]:
    """Around `run.active()`: what the run logs goes to each tracker, and at the end how it ended.

    A resumed run goes on in the tracked run that its events name.
    """
    feeds = [Feed(name, TRACKERS[name](), run, project) for name in names]
    watching = [feed.put for feed in feeds]
    run.watchers.extend(watching)
    try:
        yield
    finally:
        for watcher in watching:
            run.watchers.remove(watcher)
        ending = run.status if run.status in ("finished", "interrupted") else "failed"
        for feed in feeds:
            feed.queue.put(cast(Ending, ending))
        _await(feeds)


def _await(feeds: Sequence[Feed]) -> None:
    """Wait until all is sent, for Ctrl-C or for the time-out; a thread that is slower goes on unheard."""
    started = time.monotonic()
    with suppress(KeyboardInterrupt):
        for limit in (NOTICE_S, CLOSE_TIMEOUT_S):
            for feed in feeds:
                # not Thread.join: a Ctrl-C inside it marks a running thread as ended in CPython 3.11
                feed.done.wait(started + limit - time.monotonic())
            slow = [feed.name for feed in feeds if not feed.done.is_set()]
            if slow and limit == NOTICE_S:
                _say(f"{' and '.join(slow)} may take {CLOSE_TIMEOUT_S:g} s for the last rows; Ctrl-C to leave them")
    for feed in feeds:
        if not feed.done.is_set():
            feed.give_up("it was too slow to take all rows before the end")


class Feed:
    """One tracker and the thread that feeds it. The queue holds rows that the run keeps anyway, so it has no bound."""

    def __init__(self, name: TrackerName, tracker: Tracker, run: Run, project: str | None) -> None:
        self.name, self.tracker, self.run = name, tracker, run
        self.about = describe(run, project)
        self.known = next(
            (e["id"] for e in reversed(run.events) if e["event"] == "tracked" and e["tracker"] == name), None
        )
        self.queue: queue.SimpleQueue[Row | Ending] = queue.SimpleQueue()
        self.given_up, self.done = False, threading.Event()
        earlier = run.metrics
        for row in earlier:
            self.put(row["step"], {key: value for key, value in row.items() if key != "step"})
        self.sent = earlier[-1]["step"] if earlier and self.known else 0
        self.thread = threading.Thread(target=self._work, name=f"track-{name}", daemon=True)
        self.thread.start()

    def put(self, step: int, values: dict[str, Any]) -> None:
        if not self.done.is_set():
            self.queue.put((step, member_named(values)))

    def _work(self) -> None:
        try:
            opened = self.tracker.open(self.about, self.known)
            url = without_credentials(opened.url) if opened.url else None
            if opened.id != self.known and not self.given_up:
                self.run.event("tracked", tracker=self.name, id=opened.id, url=url)
            if url and not self.given_up:
                _say(f"{self.name} shows this run at {url}")
            if opened.last_step is not None:
                self.sent = opened.last_step
            self._feed()
        except BaseException as error:  # SystemExit too: whatever a tracker does, training goes on
            self.give_up(reason(error))
        finally:
            self.done.set()

    def _feed(self) -> None:
        """Send rows as they come, all that wait at once, and each step only once: repeated ones are the same."""
        ending: Ending | None = None
        while ending is None:
            items: list[Row | Ending] = [self.queue.get()]
            with suppress(queue.Empty):
                while True:
                    items.append(self.queue.get_nowait())
            rows: list[Row] = []
            for item in items:
                if not isinstance(item, tuple):
                    ending = item
                elif item[0] > self.sent:
                    rows.append(item)
                    self.sent = item[0]
            if rows:
                self.tracker.log(rows)
        self.tracker.close(ending)

    def give_up(self, why: str) -> None:
        """Say so, once, on the terminal and in the run."""
        if self.given_up:
            return
        self.given_up = True
        _say(f"{self.name} records no more of this run, which goes on without it: {why}")
        # a disk that takes no event stops the run by itself
        with suppress(RaySafeError):
            self.run.event("track-failed", tracker=self.name, reason=why)


def _say(text: str) -> None:
    print(f"track: {text}", file=sys.stderr)


def describe(run: Run, project: str | None) -> About:
    """What trackers are told of a run: nothing that holds a password or key."""
    config = run.config
    job = str(config.pop("job"))
    folder = run.folder.local_path() if run.folder.is_local else None
    return About(run.name, without_credentials(run.uri), job, flat(config), project, folder)


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as outer.inner."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = without_credentials(value) if isinstance(value, str) else value
    return result


def member_named(values: dict[str, Any]) -> dict[str, Any]:
    """The figures of an ensemble's member k > 0 as member-k/…, so that each has a curve of its own."""
    member = values.get("member")
    if not member:
        return values
    return {f"member-{member}/{name}": value for name, value in values.items() if name != "member"}


def without_credentials(text: str) -> str:
    """Text with its URLs' user, password and query taken out: storage and server URLs may carry keys there."""
    return re.sub(r"(://[^\s?]*)\?[^\s)'\"]*", r"\1", re.sub(r"://[^/\s]*@", "://", text))


def reason(error: BaseException) -> str:
    """What went wrong, in short, less the values of environment variables that look like secrets."""
    text = without_credentials((str(error).strip() or type(error).__name__).splitlines()[0])
    for name, value in os.environ.items():
        if len(value) >= 8 and re.search(r"KEY|TOKEN|PASSWORD|SECRET", name):
            text = text.replace(value, "***")
    return textwrap.shorten(text, REASON_LENGTH, placeholder=" …")
