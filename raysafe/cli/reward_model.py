"""`raysafe reward-model`."""

from __future__ import annotations

from raysafe.alignment.reward_model import RewardModelJob
from raysafe.cli.job import run_job


def main(argv: list[str]) -> int:
    """Parse the job's settings and run it."""
    return run_job(RewardModelJob, argv)
