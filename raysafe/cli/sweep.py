"""`raysafe sweep FILE`."""

from __future__ import annotations

from raysafe.cli.jobs_table import start


def main(argv: list[str]) -> int:
    """Parse the sweep's settings and run it; the file that holds them may stand first."""
    if argv and not argv[0].startswith("-"):
        argv = ["--config", *argv]
    return start("sweep", argv)
