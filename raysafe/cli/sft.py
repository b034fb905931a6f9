"""`raysafe sft`."""

from __future__ import annotations

from raysafe.alignment.sft import SFTJob
from raysafe.cli.job import run_job


def main(argv: list[str]) -> int:
    """Parse the job's settings and run it."""
    return run_job(SFTJob, argv)
