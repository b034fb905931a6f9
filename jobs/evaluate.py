"""The evaluation job as a script: `python jobs/evaluate.py MODEL --config jobs/presets/evaluate_tiny.yaml`."""

import sys

from raysafe.cli.jobs_table import start
from raysafe.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: start("evaluate", sys.argv[1:], positional="model")))
