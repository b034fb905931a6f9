"""The rl job as a script: `python jobs/rl.py --config jobs/presets/rl_tiny.yaml`, or under `raysafe submit`."""

import sys

from raysafe.cli.jobs_table import start
from raysafe.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: start("rl", sys.argv[1:])))
