"""A sandbox of whichever kind a policy asks for: all of them take one job, in the same words."""

from __future__ import annotations

from typing import Protocol

from raysafe.control.sandbox.job import Job
from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.result import Result


class OneShot(Protocol):
    """A sandbox that waits for its one job."""

    @property
    def alive(self) -> bool:
        """Whether it still waits, or runs."""
        ...

    def run(self, job: Job) -> Result: ...

    def kill(self) -> None:
        """End it from any thread; a `run` that is under way returns."""
        ...

    def close(self) -> None:
        """End it and give up all it holds; not while another thread runs its job."""
        ...


def open_sandbox(policy: Policy) -> OneShot:
    """A waiting sandbox; raises SandboxUnavailable where this machine can't isolate as the policy asks."""
    if policy.backend == "gvisor":
        from raysafe.control.sandbox.gvisor import GvisorSandbox

        return GvisorSandbox(policy)
    from raysafe.control.sandbox.sandbox import Sandbox

    return Sandbox(policy)


def check_isolation(policy: Policy) -> None:
    """Make a sandbox and end it; raises SandboxUnavailable where that can't be done."""
    open_sandbox(policy).close()
