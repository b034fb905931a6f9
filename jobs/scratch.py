"""The scratch job: `python jobs/scratch.py --data FILE --kind ratings` makes a model that knows nothing."""

import sys

from raysafe.cli.jobs_table import start
from raysafe.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: start("scratch", sys.argv[1:])))
