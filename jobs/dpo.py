"""The dpo job as a script: `python jobs/dpo.py --config jobs/presets/dpo_tiny.yaml`, or under `raysafe submit`."""

import sys

from raysafe.cli.main import guarded


def main() -> int:
    from raysafe.alignment.dpo import DPOJob
    from raysafe.cli.job import run_job

    return run_job(DPOJob, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(guarded(main))
