"""Commands as the README shows them, run in a folder of their own, with what they print."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from raysafe.runtime.run import Run
from tests.verify.readme import ROOT

BIN = Path(sys.executable).parent


def user_environment() -> dict[str, str]:
    """As a user has it: what conftest.py sets for unit tests is taken away."""
    hidden = ("OMP_NUM_THREADS", "RAY_AUTH_MODE", "RAYSAFE_STORE")
    own = {name: value for name, value in os.environ.items() if name not in hidden}
    return own | {"PATH": f"{BIN}:{own['PATH']}", "COLUMNS": "110"}


class Served(NamedTuple):
    """What a service printed, less the secret of its first API key, and that secret."""

    printed: str
    key: str


class Shell:
    """Runs commands in `folder`, in which jobs/ and raysafe/ are the project's; keeps a transcript."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("jobs", "raysafe"):
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(ROOT / name)
        self.lines: list[str] = []

    def run(
        self, command: str, *, code: int = 0, timeout_s: float = 1200, show: bool = True, named: bool = False
    ) -> str:
        """What the command printed: to stdout, or to stderr where it was to fail. The exit code must be `code`.

        named: the run that it says it left, instead.
        """
        done = subprocess.run(
            shlex.split(command),
            cwd=self.folder,
            env=user_environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == code, f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        printed = done.stderr if code else done.stdout
        assert "Traceback" not in done.stdout + done.stderr
        if show:
            self.lines += [f"$ {command}", *printed.replace(f"{self.folder}/", "").rstrip().splitlines()]
        if not named:
            return printed
        found = re.search(r"^run +(\S+)$", printed, re.MULTILINE)
        assert found, printed
        return os.path.relpath(found[1], self.folder) if found[1].startswith("/") else found[1]

    @contextmanager
    def serving(self, command: str, log: str, **environment: str) -> Iterator[Served]:
        """A service that runs in the foreground, until Ctrl-C; it is up when it has said where."""
        path = self.folder / log
        with path.open("w") as out:
            given = user_environment() | environment
            process = subprocess.Popen(shlex.split(command), cwd=self.folder, env=given, stdout=out, stderr=out)
        try:
            deadline = time.monotonic() + 300
            while "Ctrl-C stops it" not in path.read_text() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.5)
            printed = path.read_text()
            assert process.poll() is None and "Ctrl-C stops it" in printed, printed
            key = re.search(r"rs-[\w-]+", printed)
            assert key, printed
            yield Served(printed.replace(key[0], "rs-…"), key[0])
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(120)

    def opened(self, run: str) -> Run:
        """A run by the path that a command named."""
        return Run.open(self.folder / run)

    def transcript(self) -> str:
        """What was run since the last transcript, as an indented block."""
        lines, self.lines = self.lines, []
        return "\n".join(f"    {line.rstrip()}" if line.strip() else "" for line in lines)


def minutes(seconds: float) -> str:
    """5 min 12 s."""
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def text(self) -> str:
        return minutes(time.monotonic() - self._started)
