"""The reward model job as a script: `python jobs/reward_model.py --config FILE`, or under `raysafe submit`."""

import sys

from raysafe.cli.main import guarded


def main() -> int:
    from raysafe.alignment.reward_model import RewardModelJob
    from raysafe.cli.job import run_job

    return run_job(RewardModelJob, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(guarded(main))
