"""The irl job as a script: `python jobs/irl.py --config jobs/presets/irl_tiny.yaml`, or under `raysafe submit`."""

import sys

from raysafe.cli.jobs_table import start
from raysafe.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: start("irl", sys.argv[1:])))
