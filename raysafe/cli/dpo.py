"""`raysafe dpo`."""

from __future__ import annotations

from raysafe.alignment.dpo import DPOJob
from raysafe.cli.job import run_job


def main(argv: list[str]) -> int:
    """Parse the job's settings and run it."""
    return run_job(DPOJob, argv)
