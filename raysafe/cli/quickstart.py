"""`raysafe quickstart`: the whole line on a small made-up language, with no download."""

from __future__ import annotations

import tyro


def main(argv: list[str]) -> int:
    """Parse the few settings and go down the line."""
    from pydantic import ValidationError

    from raysafe.config import explain
    from raysafe.errors import ConfigError
    from raysafe.quickstart.demo import Quickstart

    try:
        settings = tyro.cli(Quickstart, args=argv, prog="raysafe quickstart")
    except ValidationError as error:
        raise ConfigError(explain(Quickstart, error, "the command line")) from None
    settings.run()
    return 0
