"""A sandbox on gVisor: the code's system calls go to a kernel in user space, and only that kernel's own to the host.

The same words as `Sandbox`, with these differences. The kernel that ends processes, keeps users apart and tells how the
job ended is gVisor's, so that no system call of the job's is seen here and none is a breach. Processes are counted as
threads of that kernel, whose own (THREADS) come on top. Files that a job left when a limit ended it are not taken out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from raysafe.control.sandbox.cgroups import Group, find_places
from raysafe.control.sandbox.gvisor_bundle import write_bundle
from raysafe.control.sandbox.inside import frames
from raysafe.control.sandbox.job import Job
from raysafe.control.sandbox.mounts import environment
from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.result import Result, SandboxUnavailable, Usage
from raysafe.control.sandbox.seccomp import Target, no_execution
from raysafe.control.sandbox.supervise import Bounds, Outcome, Output, supervise
from raysafe.control.sandbox.watchdog import Watchdog

SETUP_TIMEOUT_S = 60.0
THREADS = 256
"""Of gVisor's kernel and of the process that opens files for it."""
KILLED = -9
GATE = 'read go <"/dev/fd/$0" && exec "$@"'
"""A shell's wait for the control group: what it starts is then born in it."""


def runsc() -> str:
    """gVisor's runtime; raises SandboxUnavailable."""
    found = shutil.which("runsc")
    if found is None:
        raise SandboxUnavailable(
            "the policy asks for gVisor, and there is no runsc on the PATH: install gVisor (on Debian the package "
            "runsc), or set backend to bubblewrap"
        )
    return found


class GvisorSandbox:
    """One sandbox. Raises SandboxUnavailable where this machine can't isolate; then nothing of it is left."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        target = Target.here()
        if target is None:
            raise SandboxUnavailable("system calls are known for Linux on x86_64 and aarch64 alone: use such a machine")
        if policy.domains:
            raise SandboxUnavailable("gVisor's sandbox has no way out to domains: leave them out, or use bubblewrap")
        self._target, self._used = target, False
        self._lock = threading.Lock()
        self._open: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._bounds: Bounds | None = None
        self._control, self._inner = socket.socketpair()
        self._control.settimeout(SETUP_TIMEOUT_S)
        self._folder = Path(tempfile.mkdtemp(prefix="raysafe-gvisor-"))
        try:
            self._start(runsc())
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether it waits for its job, or runs it."""
        return self._process is not None and self._process.poll() is None

    def run(self, job: Job) -> Result:
        """Run the job; returns when it has ended and nothing of it is left but the result."""
        if self._used:
            raise SandboxUnavailable("this sandbox had its job: make another one")
        job.check(self.policy)
        self._used = True
        assert self._bounds is not None
        started = time.monotonic()
        left: dict[str, Any] = {"refused": {}, "inodes": 0, "disk_bytes": 0, "full": False}
        files: dict[str, bytes] = {}
        try:
            frames.send(self._control, job.order())
            for content in job.files.values():
                self._control.sendall(content)
            outcome = supervise(self.policy, self._bounds, self._outputs, self._control, None, None, self._target)
            if outcome.status is not None:
                left, files = self._taken(job)
        except (EOFError, ConnectionError, TimeoutError) as error:
            raise SandboxUnavailable(f"gVisor's process 1 is gone: {type(error).__name__}") from None
        finally:
            self._end()
        return self._result(outcome, left, files, time.monotonic() - started)

    def kill(self) -> None:
        """End it from any thread; a `run` that is under way returns."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """End it, whatever it does."""
        self._end()
        if self._bounds is not None:
            self._bounds.remove()
            self._bounds = None
        while self._open:
            os.close(self._open.pop())
        self._control.close()
        self._inner.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, program: str) -> None:
        write_bundle(self._folder, self.policy)
        stdout, out = self._pipe()
        stderr, err = self._pipe()
        gate, opens = self._pipe()
        self._outputs = Output(stdout, self.policy.output_bytes), Output(stderr, self.policy.output_bytes)
        rootless = [] if os.geteuid() == 0 else ["--rootless"]
        log = self._folder / "log"
        arguments = [program, "--root", str(self._folder / "state"), "--network=none", "--ignore-cgroups", *rootless]
        arguments += ["--log", str(log), "run", "--bundle", str(self._folder), self._folder.name]
        places = find_places()
        try:
            self._bounds = Group(places, self.policy, THREADS) if places else Watchdog(self.policy, THREADS)
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", GATE, str(gate), *arguments],
                stdin=self._inner.fileno(), stdout=out, stderr=err, pass_fds=[gate], env={"PATH": "/usr/sbin:/usr/bin"},
            )  # fmt: skip
            self._bounds.add(self._process.pid)
        except OSError as error:
            raise SandboxUnavailable(f"can't start gVisor in a control group: {error}") from None
        os.write(opens, b"\n")
        self._inner.close()
        for descriptor in (out, err, gate, opens):
            os.close(descriptor)
            self._open.remove(descriptor)
        try:
            frames.send(self._control, self._setup())
            ready = frames.receive(self._control)
        except (EOFError, ConnectionError, TimeoutError):
            said = " ".join(log.read_text(errors="replace").split()[-60:]) if log.exists() else "nothing"
            raise SandboxUnavailable(f"gVisor could not isolate; its log ends: {said}") from None
        if "failed" in ready:
            raise SandboxUnavailable(f"gVisor's sandbox could not be set up: {ready['failed']}")

    def _setup(self) -> dict[str, Any]:
        policy = self.policy
        return {
            "disk_bytes": policy.disk_bytes,
            "environment": environment(policy.cpus),
            "execute": policy.execute,
            "rlimits": {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": policy.disk_bytes, "RLIMIT_NOFILE": 1024},
            "cpus": None,
            "ports": [],
            "no_unix_sockets": None,
            "no_execution": no_execution(self._target).hex(),
        }

    def _taken(self, job: Job) -> tuple[dict[str, Any], dict[str, bytes]]:
        """What process 1 says of the files, and those that weren't given or were changed; nothing is taken on trust."""
        self._control.settimeout(SETUP_TIMEOUT_S)
        left = frames.receive(self._control)
        total = sum(size for _, size in left["files"])
        if total > self.policy.disk_bytes or any(size < 0 or not _plain(name) for name, size in left["files"]):
            raise SandboxUnavailable("gVisor's process 1 told of files that can't be: its sandbox isn't one any more")
        files = {}
        for name, size in left["files"]:
            content = frames.receive_bytes(self._control, size)
            if job.files.get(name) != content:
                files[name] = content
        return left, files

    def _end(self) -> None:
        """Kill gVisor, and with it everything that it runs."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._process = None
        if isinstance(self._bounds, Group):
            # its kernel and its opener of files end by themselves when it does, a moment later
            for pid in self._bounds.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _result(self, outcome: Outcome, left: dict[str, Any], files: dict[str, bytes], wall_seconds: float) -> Result:
        assert self._bounds is not None
        stdout, stderr = (output.rest() for output in self._outputs)
        limit = outcome.limit_hit or self._bounds.limit_hit()
        if limit is None and (left["full"] or left["inodes"] > self.policy.inodes):
            limit = "disk"
        if limit is None and any(output.over for output in self._outputs):
            limit = "output"
        usage = Usage(
            wall_seconds=wall_seconds,
            cpu_seconds=self._bounds.cpu_seconds(),
            memory_bytes=self._bounds.memory_peak(),
            disk_bytes=left["disk_bytes"],
            inodes=left["inodes"],
            enforced_by=self._bounds.kind,
        )
        code = KILLED if outcome.status is None else os.waitstatus_to_exitcode(outcome.status)
        return Result(stdout, stderr, code, limit, files, usage, left["refused"])

    def _pipe(self) -> tuple[int, int]:
        read, write = os.pipe()
        self._open += (read, write)
        return read, write


def _plain(name: str) -> bool:
    pure = PurePosixPath(name)
    return name.isprintable() and not pure.is_absolute() and ".." not in pure.parts and str(pure) == name != "."
