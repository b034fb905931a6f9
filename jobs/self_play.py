"""The self-play job as a script: `python jobs/self_play.py --env module:Class`, or under `raysafe submit`."""

import sys

from raysafe.cli.jobs_table import start
from raysafe.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: start("self-play", sys.argv[1:])))
