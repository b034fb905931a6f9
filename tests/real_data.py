"""Real data and models that the project doesn't carry: where they are looked for."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("RAYSAFE_TEST_DATA", ROOT.parent / "shared" / "data"))
CACHE = Path("~/.cache/raysafe-test").expanduser()

STORIES = SHARED / "stories260K"
HH_RLHF = SHARED / "hh-rlhf" / "harmless-base-test.jsonl.gz"
SMOLLM2 = Path(os.environ.get("RAYSAFE_SMOLLM2", CACHE / "SmolLM2-135M-Instruct"))
RATED = Path(os.environ.get("RAYSAFE_RATED_SENTENCES", CACHE / "rated-sentences"))
GUARD_PROMPTS = Path(os.environ.get("RAYSAFE_GUARD_PROMPTS", CACHE / "guard-prompts"))
"""Attacks, requests and benign prompts that tests.bench.guards_data fetches."""
FAIRNESS = Path(os.environ.get("RAYSAFE_FAIRNESS_DATA", CACHE / "fairness"))
"""Adult and COMPAS as tests.bench.fairness_data fetches them."""
