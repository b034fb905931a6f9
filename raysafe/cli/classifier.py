"""`raysafe classifier`."""

from __future__ import annotations

from raysafe.cli.jobs_table import start


def main(argv: list[str]) -> int:
    """Parse the job's settings and run it."""
    return start("classifier", argv)
