"""The dpo job as a script: `python jobs/dpo.py --config jobs/presets/dpo_tiny.yaml`, or under `raysafe submit`."""

import sys

from raysafe.cli.jobs_table import start
from raysafe.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: start("dpo", sys.argv[1:])))
