"""Starting a job of the table from its command line."""

from __future__ import annotations

from raysafe.jobs_table import load_job


def start(name: str, argv: list[str], *, positional: str | None = None) -> int:
    """Run a job from its command line; one that this machine can't hold is refused before anything slow is imported."""
    from raysafe.cli.early import check_resources
    from raysafe.cli.job import run_job

    check_resources(argv)
    return run_job(load_job(name), argv, positional=positional)
