"""The transfer job as a script: `python jobs/transfer.py --config jobs/presets/transfer_digits.yaml`.

Also under `raysafe submit`.
"""

import sys

from raysafe.cli.jobs_table import start
from raysafe.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: start("transfer", sys.argv[1:])))
