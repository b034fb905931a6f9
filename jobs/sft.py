"""The sft job as a script: `python jobs/sft.py --config jobs/presets/sft_tiny.yaml`, or under `raysafe submit`."""

import sys

from raysafe.cli.jobs_table import start
from raysafe.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: start("sft", sys.argv[1:])))
