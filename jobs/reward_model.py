"""The reward model job as a script: `python jobs/reward_model.py --config FILE`, or under `raysafe submit`."""

import sys

from raysafe.cli.jobs_table import start
from raysafe.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: start("reward-model", sys.argv[1:])))
