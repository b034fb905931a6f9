"""Run untrusted code where it can reach nothing: `run(code_or_argv, policy=Policy(...), files=...) -> Result`."""

from raysafe.control.sandbox.job import Job
from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.result import Breach, OutputRefused, Result, SandboxUnavailable, Usage
from raysafe.control.sandbox.running import run
from raysafe.control.sandbox.sandbox import Sandbox

__all__ = ["Breach", "Job", "OutputRefused", "Policy", "Result", "Sandbox", "SandboxUnavailable", "Usage", "run"]
