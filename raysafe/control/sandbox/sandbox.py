"""A sandbox for one job: made first, with everything set up and process 1 waiting; then given its job; then gone.

The two stages may lie far apart, which is what a pool of waiting sandboxes is made of. None is used twice.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
from types import TracebackType
from typing import Any, Self

from raysafe.control.sandbox.bubblewrap import NOBODY, command, is_privileged, user_of_its_own
from raysafe.control.sandbox.cgroups import Group, find_places
from raysafe.control.sandbox.handshake import greeting
from raysafe.control.sandbox.harvest import harvest
from raysafe.control.sandbox.inside import words
from raysafe.control.sandbox.job import Job
from raysafe.control.sandbox.mounts import PROXY, PROXY_PORT, below_tmp, environment
from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.proxy.server import Proxy
from raysafe.control.sandbox.result import Result, SandboxUnavailable, Usage
from raysafe.control.sandbox.seccomp import Target, no_execution, no_unix_sockets, sandbox_filter
from raysafe.control.sandbox.supervise import Bounds, Outcome, Output, supervise, told
from raysafe.control.sandbox.watchdog import Watchdog

SETUP_TIMEOUT_S = 20.0
KILLED = -9


class Sandbox:
    """One sandbox. Raises SandboxUnavailable where this machine can't isolate; then nothing of it is left."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy = policy or Policy()
        target = Target.here()
        if target is None:
            raise SandboxUnavailable("system calls are known for Linux on x86_64 and aarch64 alone: use such a machine")
        self._target = target
        self._open: list[int] = []
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._bounds: Bounds | None = None
        self._keeper: int | None = None
        self._used = False
        self._proxy = Proxy(policy.network_rules) if policy.domains else None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def run(self, job: Job) -> Result:
        """Run the job; returns when it has ended and nothing of it is left but the result."""
        if self._used:
            raise SandboxUnavailable("this sandbox had its job: make another one")
        job.check(self.policy)
        self._used = True
        assert self._bounds is not None
        started = time.monotonic()
        try:
            self._send(job)
            ways = (self._control, self._listener, self._home)
            outcome = supervise(self.policy, self._bounds, self._outputs, *ways, self._target)
        finally:
            self._end()
        return self._result(job, outcome, time.monotonic() - started)

    @property
    def bound_by(self) -> str:
        """What binds memory, processor time and processes: control groups, or a watchdog."""
        assert self._bounds is not None
        return self._bounds.kind

    @property
    def alive(self) -> bool:
        """Whether it waits for its job, or runs it."""
        with self._lock:
            return self._keeper is not None and not select.select([self._keeper], [], [], 0)[0]

    def kill(self) -> None:
        """End it from any thread; a `run` that is under way returns."""
        with self._lock:
            if self._keeper is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._keeper, signal.SIGKILL)

    def close(self) -> None:
        """End it, whatever it does."""
        self._end()
        if self._bounds is not None:
            self._bounds.remove()
            self._bounds = None
        with self._lock:
            self._keeper = None
            while self._open:
                os.close(self._open.pop())
        if self._proxy is not None:
            self._proxy.stop()
        if hasattr(self, "_control"):
            self._control.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        privileged = is_privileged()
        if self._proxy is not None:
            try:
                self._proxy.start()
            except OSError as error:
                raise SandboxUnavailable(f"can't listen for the sandbox's requests: {error.strerror}") from None
        self._control, inner = socket.socketpair()
        self._control.settimeout(SETUP_TIMEOUT_S)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        stdout, out = self._pipe()
        stderr, err = self._pipe()
        said, say = self._pipe()
        self._said = said
        self._outputs = (Output(stdout, self.policy.output_bytes), Output(stderr, self.policy.output_bytes))
        way_out = self._proxy.path if self._proxy else None
        argv, small = command(self.policy, (inner.fileno(), out, err), privileged=privileged, proxy=way_out)
        self._open += small
        nobody = NOBODY if os.geteuid() == 0 and not privileged else None
        handed_over = [inner.fileno(), out, err, *small]
        try:
            self._process = subprocess.Popen(
                argv,
                pass_fds=handed_over,
                env={},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=say,
                user=nobody,
                group=nobody,
                extra_groups=None if nobody is None else [],
            )
        except OSError as error:
            raise SandboxUnavailable(f"can't start bubblewrap at {argv[0]}: {error.strerror}") from None
        finally:
            inner.close()
            for descriptor in (out, err, say, *small):
                os.close(descriptor)
                self._open.remove(descriptor)
        self._close_doors(privileged)

    def _close_doors(self, privileged: bool) -> None:
        """Tell process 1 what it is to set up, and hear that it has."""
        places = find_places()
        try:
            # process 1, and the forwarder to the proxy
            own = 1 if self._proxy is None else 2
            self._bounds = Group(places, self.policy, own) if places else Watchdog(self.policy, own)
        except OSError as error:
            raise SandboxUnavailable(f"can't make a control group: {error}") from None
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            words.send(self._control, self._setup(privileged))
        greeted = greeting(self._control)
        if greeted is None:
            raise SandboxUnavailable(f"bubblewrap could not isolate: {self._complaint()}")
        self._open += greeted.descriptors
        if "failed" in greeted.message:
            raise SandboxUnavailable(f"the sandbox could not be closed: {greeted.message['failed']}")
        self._home, self._listener = greeted.descriptors
        self.landlock: int = greeted.message["landlock"]
        self._own_inodes: int = greeted.message["inodes"]
        self._keeper = os.pidfd_open(greeted.pid)
        self._open.append(self._keeper)
        self._bounds.add(greeted.pid)
        if isinstance(self._bounds, Watchdog):
            self._bounds.watch_folder(self._home)

    def _setup(self, privileged: bool) -> dict[str, Any]:
        policy = self.policy
        no_group = not isinstance(self._bounds, Group)
        rlimits = {
            "RLIMIT_CORE": 0,
            "RLIMIT_FSIZE": policy.disk_bytes,
            "RLIMIT_NOFILE": 1024,
            "RLIMIT_MEMLOCK": 1 << 20,
        }
        if no_group:
            # what one process can do between two looks of the watchdog
            rlimits |= {"RLIMIT_NPROC": policy.pids + 2, "RLIMIT_DATA": 2 * policy.memory_bytes}
        return {
            "drop_to": user_of_its_own() if privileged else None,
            "disk_bytes": policy.disk_bytes,
            "inodes": policy.inodes,
            "below_tmp": below_tmp(policy.readable),
            "environment": environment(policy.cpus, network=self._proxy is not None),
            "proxy": (PROXY, PROXY_PORT) if self._proxy else None,
            "execute": policy.execute,
            "rlimits": rlimits,
            "cpus": int(max(1, policy.cpus)) if no_group else None,
            "ports": [PROXY_PORT] if self._proxy else [],
            "filter": sandbox_filter(self._target, network=self._proxy is not None).hex(),
            "no_unix_sockets": no_unix_sockets(self._target).hex() if self._proxy else None,
            "no_execution": no_execution(self._target).hex(),
        }

    def _send(self, job: Job) -> None:
        try:
            words.send(self._control, job.order())
            for content in job.files.values():
                self._control.sendall(content)
        except OSError:
            # process 1 may have said why before it ended
            told(self._control)
            raise SandboxUnavailable("the sandbox ended before it had its job, and nothing was run in it") from None

    def _end(self) -> None:
        """Kill process 1, and with it everything in its namespace; returns when all of it is dead."""
        if self._keeper is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._keeper, signal.SIGKILL)
        if self._process is not None:
            if self._keeper is None:
                self._process.kill()
            self._process.wait()
            self._process = None

    def _result(self, job: Job, outcome: Outcome, wall_seconds: float) -> Result:
        assert self._bounds is not None
        stdout, stderr = (output.rest() for output in self._outputs)
        limit = outcome.limit_hit
        if limit is None and any(output.over for output in self._outputs):
            limit = "output"
        space = os.fstatvfs(self._home)
        found = harvest(self._home, most_bytes=self.policy.disk_bytes, given=job.files)
        usage = Usage(
            wall_seconds=wall_seconds,
            cpu_seconds=self._bounds.cpu_seconds(),
            memory_bytes=self._bounds.memory_peak(),
            disk_bytes=(space.f_blocks - space.f_bfree) * space.f_frsize,
            inodes=space.f_files - space.f_ffree - self._own_inodes,
            enforced_by=self._bounds.kind,
            network=self._proxy.requests() if self._proxy else (),
        )
        return Result(
            stdout=stdout,
            stderr=stderr,
            exit_code=KILLED if outcome.status is None else os.waitstatus_to_exitcode(outcome.status),
            limit_hit=limit or self._bounds.limit_hit(),
            files=found.files,
            usage=usage,
            refused=found.refused,
            breaches=(*outcome.breaches, *found.breaches),
        )

    def _pipe(self) -> tuple[int, int]:
        read, write = os.pipe()
        self._open += (read, write)
        return read, write

    def _complaint(self) -> str:
        """What bubblewrap said before it gave up."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        os.set_blocking(self._said, False)
        with contextlib.suppress(BlockingIOError):
            return " ".join(os.read(self._said, 4096).decode(errors="replace").split()) or "it said nothing"
        return "it said nothing"
