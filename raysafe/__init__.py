"""RaySafe: from preference data to a reviewed, guarded HTTP service on Ray."""

import os

# Ray reads these when it is imported: with the hook on, `uv run` makes every worker start through uv.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
# workers stay in the folder that the job was started in, so relative paths mean what they say
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
# the controller takes one report a poll: at Ray's two seconds, frequent checkpoints wait for it
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# what Ray prints to stdout of its own accord: Serve's controller, which ends itself, and workers that fit() replaces
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", r"graceful_shutdown failed|worker died or was killed")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

__version__ = "0.1.0"
