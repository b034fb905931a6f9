"""The scratch job: `python jobs/scratch.py --data FILE --kind ratings` makes a model that knows nothing."""

import sys

from raysafe.cli.main import guarded


def main() -> int:
    from raysafe.alignment.scratch import ScratchJob
    from raysafe.cli.job import run_job

    return run_job(ScratchJob, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(guarded(main))
