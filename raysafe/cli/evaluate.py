"""`raysafe evaluate MODEL --suite NAME --data FILE`."""

from __future__ import annotations

from raysafe.cli.job import run_job
from raysafe.evaluation.job import EvaluateJob


def main(argv: list[str]) -> int:
    """Parse the job's settings and run it; the model may stand first."""
    return run_job(EvaluateJob, argv, positional="model")
