"""The classifier job as a script: `python jobs/classifier.py --config jobs/presets/classifier_tiny.yaml`.

Also under `raysafe submit`.
"""

import sys

from raysafe.cli.jobs_table import start
from raysafe.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: start("classifier", sys.argv[1:])))
