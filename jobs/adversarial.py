"""The adversarial job as a script: `python jobs/adversarial.py --config FILE`, or under `raysafe submit`."""

import sys

from raysafe.cli.jobs_table import start
from raysafe.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: start("adversarial", sys.argv[1:])))
