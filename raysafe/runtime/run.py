"""Run: one directory per run, complete enough to judge it, compare it and resume it.

It holds config.yaml, environment.json, metrics.parquet (one row a step), events.jsonl, checkpoints/, model/,
evidence.json and report.html.
The driver is the only writer, by a lock on local disks; every file is replaced whole.
"""

from __future__ import annotations

import json
import secrets
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from raysafe.config import Job
from raysafe.errors import ConfigError, Interrupted, StorageError
from raysafe.records.evidence import Evidence
from raysafe.runtime import files
from raysafe.runtime.environment import describe_environment
from raysafe.runtime.lock import Held, exclusive
from raysafe.runtime.storage import Folder

FLUSH_INTERVAL_S = 5.0
REASON_LENGTH = 200
LOCK = ".lock"
Parsed = TypeVar("Parsed")
Status = Literal["created", "running", "finished", "failed", "interrupted"]
_STATUS_EVENTS = {"created", "running", "finished", "failed", "interrupted"}


class Run:
    """A run directory. `Run.create` starts one, `Run.open` reads one that exists."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._metrics: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        self._event_lock = threading.Lock()
        self.watchers: list[Callable[[int, dict[str, float]], None]] = []
        """Told of every row that is logged, at once."""
        self._unwritten = 0
        self._flushed_at = time.monotonic()
        self.flushed_step = 0
        self._locked = self._refused = False

    @classmethod
    def create(cls, job: Job, label: str | None = None) -> Self:
        """`<storage>/<name>-<id>/` with the job's config and this machine's environment in it.

        label: the folder's name in the storage, where it must be found again by it.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        label = label or f"{job.name or job.job}-{stamp}-{secrets.token_hex(2)}"
        run = cls(Folder(Folder(job.storage).join(label)))
        run.folder.create()
        run.folder.write("config.yaml", job.to_yaml())
        run.folder.write("environment.json", json.dumps({**describe_environment(), "seed": job.seed}, indent=2))
        run.event("created", job=job.job)
        return run

    @classmethod
    def open(cls, uri: str | Path) -> Self:
        """Read the run at `uri`; raises StorageError where there is none."""
        run = cls(Folder(uri))
        if not run.folder.exists("config.yaml"):
            raise StorageError(
                f"{uri} is not a run: it has no config.yaml; `raysafe runs list` shows the runs there are"
            )
        run._load()
        return run

    @property
    def uri(self) -> str:
        return self.folder.uri

    @property
    def name(self) -> str:
        return self.uri.rstrip("/").rsplit("/", 1)[-1]

    @property
    def status(self) -> Status:
        return next((e["event"] for e in reversed(self._events) if e["event"] in _STATUS_EVENTS), "created")

    @property
    def config(self) -> dict[str, Any]:
        """The job's settings as they were given, with its `job` name."""
        return self._parsed("config.yaml", files.settings)

    @property
    def environment(self) -> dict[str, Any]:
        return self._parsed("environment.json", files.environment)

    @property
    def events(self) -> list[dict[str, Any]]:
        return list(self._events)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Rows in the order of their steps; a row holds only what was measured at its step."""
        return [{k: v for k, v in row.items() if v is not None} for row in self._metrics]

    @property
    def evidence(self) -> list[Evidence]:
        if not self.folder.exists("evidence.json"):
            return []
        return self._parsed("evidence.json", files.evidence)

    def event(self, event: str, **fields: Any) -> None:
        """Append to events.jsonl, at once. Some events set the status: running, finished, failed, interrupted."""
        # trackers' threads write events too
        with self._event_lock:
            if self._refused:
                return
            self._events.append({"time": datetime.now(UTC).isoformat(), "event": event, **fields})
            self.folder.write("events.jsonl", "".join(json.dumps(e, default=str) + "\n" for e in self._events))

    def log(self, step: int, values: dict[str, float]) -> None:
        """One row of metrics, written every few seconds and at `flush`. A repeated step replaces its row."""
        while self._metrics and self._metrics[-1]["step"] >= step:
            self._metrics.pop()
        self._metrics.append({"step": step, **values})
        self._unwritten += 1
        for watcher in self.watchers:
            watcher(step, values)
        if time.monotonic() - self._flushed_at > FLUSH_INTERVAL_S:
            self.flush()

    def replace_metrics(self, rows: Iterable[dict[str, Any]]) -> None:
        """Rows in place of all that were logged: of a training that is gone on with from another run's checkpoint."""
        self._metrics = [dict(row) for row in rows]
        self._unwritten = len(self._metrics)
        self.flush()

    def flush(self) -> None:
        """Write metrics.parquet."""
        if not self._unwritten or self._refused:
            return
        names = {"step": None} | {name: None for row in self._metrics for name in row if name != "step"}
        columns = {name: [row.get(name) for row in self._metrics] for name in names}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink)
        self.folder.write("metrics.parquet", sink.getvalue().to_pybytes())
        self._unwritten, self._flushed_at = 0, time.monotonic()
        self.flushed_step = int(self._metrics[-1]["step"])

    @contextmanager
    def active(self) -> Iterator[None]:
        """Keep the status true while work is done: running, then finished, interrupted or failed.

        Raises StorageError where another driver is at work on the run, and Interrupted for a Ctrl-C.
        """
        with self.locked():
            self.event("running")
            try:
                yield
                self.flush()
            except KeyboardInterrupt:
                self._close("interrupted")
                raise Interrupted(f"stopped; go on with: raysafe runs resume {self.uri}") from None
            except Interrupted:
                self._close("interrupted")
                raise
            except BaseException as error:
                self._close("failed", error=f"{type(error).__name__}: {error}")
                raise
            self.event("finished")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the run's only driver; `active` is. After a refusal, a StorageError, this Run writes nothing more.

        Object stores have no locks: there it is up to the user.
        """
        if self._locked or not self.folder.is_local:
            yield
            return
        with ExitStack() as stack:
            try:
                with self.folder.told(LOCK):
                    stack.enter_context(exclusive(self.folder.local_path(LOCK)))
            except Held as holder:
                self._refused = True
                raise StorageError(f"{self.uri} is at work in {holder}: wait for it, or stop it") from None
            self._locked = True
            try:
                # another driver may have ended since this Run was opened
                self._load()
                yield
            finally:
                self._locked = False

    def _close(self, event: str, **fields: Any) -> None:
        """Write what can be written; what ended the work is the error to tell, not what the disk says now."""
        with suppress(StorageError):
            self.flush()
        with suppress(StorageError):
            self.event(event, **fields)

    def _load(self) -> None:
        with self._event_lock:
            if self.folder.exists("events.jsonl"):
                self._events = self._parsed("events.jsonl", files.events)
        if self.folder.exists("metrics.parquet") and not self._unwritten:
            self._metrics = self._parsed("metrics.parquet", files.metrics)

    def _parsed(self, name: str, parse: Callable[[bytes], Parsed]) -> Parsed:
        """What a file of the run holds; raises StorageError where it isn't what the run wrote."""
        content = self.folder.read(name)
        try:
            return parse(content)
        # pyarrow tells some damage as OSError
        except (ValueError, OSError, yaml.YAMLError, pa.ArrowException, ConfigError) as error:
            reason = textwrap.shorten(str(error), REASON_LENGTH, placeholder=" …")
            raise StorageError(
                f"{self.folder.join(name)} is damaged: {reason}; restore it, or delete the run"
            ) from None

    def record_input(self, kind: Literal["data", "model"], uri: str, digest: str) -> None:
        """Lineage: what this run was made from."""
        environment = self.environment
        inputs = [i for i in environment.get("inputs", []) if i["uri"] != uri]
        environment["inputs"] = [*inputs, {"kind": kind, "uri": uri, "sha256": digest}]
        self.folder.write("environment.json", json.dumps(environment, indent=2))

    def keep_examples(self, name: str, step: int, rows: Iterable[dict[str, Any]]) -> None:
        """Put a step's rows into a JSON Lines file, in place of those of this and later steps."""
        before = self.examples(name)
        kept = [row for row in before if row["step"] < step] + [{"step": step, **row} for row in rows]
        self.folder.write(name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))

    def examples(self, name: str) -> list[dict[str, Any]]:
        """Rows that `keep_examples` kept; none where there is no such file."""
        if not self.folder.exists(name):
            return []
        return self._parsed(name, lambda content: [json.loads(line) for line in content.decode().splitlines()])

    def add_evidence(self, evidence: Iterable[Evidence]) -> None:
        """Add to evidence.json."""
        items = [*self.evidence, *evidence]
        self.folder.write("evidence.json", json.dumps([e.model_dump(mode="json") for e in items], indent=2))
