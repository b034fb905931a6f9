"""Online training as a script; the preset says which job it is, ppo or grpo.

`python jobs/rlhf.py --config jobs/presets/grpo_sorting.yaml --model RUN`, or under `raysafe submit`.
"""

import sys
from itertools import pairwise

from raysafe.cli.jobs_table import start
from raysafe.cli.main import guarded
from raysafe.config import job_named
from raysafe.errors import ConfigError
from raysafe.runtime.run import Run

ONLINE = ("ppo", "grpo")


def job_of(argv: list[str]) -> str:
    """The job that the --config file, or the run to --resume, is of."""
    words = [part for argument in argv for part in argument.split("=", 1)]
    given = dict(pairwise(words))
    if "--resume" in given:
        source, job = given["--resume"], Run.open(given["--resume"]).config.get("job")
    elif "--config" in given:
        source, job = given["--config"], job_named(given["--config"])
    else:
        raise ConfigError("jobs/rlhf.py needs --config FILE, whose key `job` is ppo or grpo, or --resume RUN")
    if job not in ONLINE:
        raise ConfigError(f"{source} must name the job {' or '.join(ONLINE)}, got {job!r}")
    return job


if __name__ == "__main__":
    sys.exit(guarded(lambda: start(job_of(sys.argv[1:]), sys.argv[1:])))
