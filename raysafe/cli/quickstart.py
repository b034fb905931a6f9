"""`raysafe quickstart`: the whole line on a small made-up language, with no download."""

from __future__ import annotations

import tyro


def main(argv: list[str]) -> int:
    """Parse the few settings and go down the line."""
    from raysafe.quickstart.demo import Quickstart

    tyro.cli(Quickstart, args=argv, prog="raysafe quickstart").run()
    return 0
