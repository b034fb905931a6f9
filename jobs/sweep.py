"""The sweep as a script: `python jobs/sweep.py --config jobs/presets/sweep_tiny.yaml`. Also under `raysafe submit`."""

import sys

from raysafe.cli.jobs_table import start
from raysafe.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: start("sweep", sys.argv[1:])))
