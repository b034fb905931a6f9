"""`raysafe evaluate MODEL --suite NAME --data FILE`."""

from __future__ import annotations

from raysafe.cli.jobs_table import start


def main(argv: list[str]) -> int:
    """Parse the job's settings and run it; the model may stand first."""
    return start("evaluate", argv, positional="model")
