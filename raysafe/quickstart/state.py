"""What the quickstart has finished, so that a second start goes on where Ctrl-C or a crash ended the first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raysafe.config import Job
from raysafe.errors import StorageError
from raysafe.runtime.run import Run
from raysafe.runtime.storage import Folder

FILE = "state.json"


class State:
    """state.json in the quickstart's folder: stage -> run URI or value. Another fingerprint starts from nothing."""

    def __init__(self, storage: str | Path, fingerprint: str) -> None:
        self.folder = Folder(storage)
        self.fingerprint = fingerprint
        self.stages: dict[str, Any] = {}
        if self.folder.exists(FILE):
            found = json.loads(self.folder.read(FILE))
            if found.get("fingerprint") == fingerprint:
                self.stages = found["stages"]

    def get(self, stage: str) -> Any | None:
        return self.stages.get(stage)

    def put(self, stage: str, value: Any) -> None:
        """Durable when this returns."""
        self.stages[stage] = value
        self.folder.write(FILE, json.dumps({"fingerprint": self.fingerprint, "stages": self.stages}, indent=2))

    def clear(self) -> None:
        """Forget all stages; their runs stay where they are."""
        self.stages = {}

    def finished_run(self, stage: str) -> Run | None:
        run = self._open(stage)
        return run if run is not None and run.status == "finished" else None

    def run(self, stage: str, job: Job) -> Run:
        """The stage's finished run; else its unfinished one resumed, or a new one."""
        found = self._open(stage)
        if found is not None and found.status == "finished":
            return found
        if found is None:
            found = Run.create(job)
            self.put(stage, found.uri)
        return job.run(resume=found)

    def _open(self, stage: str) -> Run | None:
        """The stage's run, or None where it never began or its folder is gone."""
        uri = self.get(stage)
        if uri is None:
            return None
        try:
            return Run.open(uri)
        except StorageError:
            return None
