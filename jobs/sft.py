"""The sft job as a script: `python jobs/sft.py --config jobs/presets/sft_tiny.yaml`, or under `raysafe submit`."""

import sys

from raysafe.cli.main import guarded


def main() -> int:
    from raysafe.alignment.sft import SFTJob
    from raysafe.cli.job import run_job

    return run_job(SFTJob, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(guarded(main))
