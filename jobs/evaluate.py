"""The evaluation job as a script: `python jobs/evaluate.py MODEL --config jobs/presets/evaluate_tiny.yaml`."""

import sys

from raysafe.cli.main import guarded


def main() -> int:
    from raysafe.cli.job import run_job
    from raysafe.evaluation.job import EvaluateJob

    return run_job(EvaluateJob, sys.argv[1:], positional="model")


if __name__ == "__main__":
    sys.exit(guarded(main))
