"""The continual job as a script: `python jobs/continual.py --config jobs/presets/continual_digits.yaml`.

Also under `raysafe submit`.
"""

import sys

from raysafe.cli.jobs_table import start
from raysafe.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: start("continual", sys.argv[1:])))
