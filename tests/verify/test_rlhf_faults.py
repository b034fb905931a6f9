"""RLHF whose processes are killed, one after another: what is left of a run that lost each of its parts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from tests.alignment.rlhf_faults import STEPS
from tests.verify.readme import ROOT, publish

FAULTS = ("policy", "rollout", "reward", "hang", "driver", "raylet")
NAMES = {
    "policy": "a rank of the policy, killed",
    "rollout": "a rollout engine, killed",
    "reward": "the reward model's process, killed",
    "hang": "a rank of the policy, stopped in the middle (deadline 20 s)",
    "driver": "the driver, killed, and `--resume`",
    "raylet": "a whole node (its raylet, killed)",
}


def trained(folder: Path, *faults: str) -> tuple[Path, str]:
    """The run that was left in `folder`, and what was printed."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.alignment.rlhf_faults", str(folder), *faults]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = folder.glob("ppo-*")
    return run, done.stdout


def last_event(run: Path, name: str) -> dict[str, Any]:
    return [e for e in map(json.loads, (run / "events.jsonl").read_text().splitlines()) if e["event"] == name][-1]


@pytest.mark.slow
def test_a_run_that_loses_every_part_ends_as_one_that_loses_none(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "whole")
    torn, printed = trained(tmp_path / "torn", *FAULTS)
    ends = [last_event(run, "trained") for run in (whole, torn)]
    for name in ("step", "updates", "samples"):
        assert ends[0][name] == ends[1][name]
    steps = pq.read_table(torn / "metrics.parquet")["step"].to_pylist()
    assert steps == list(range(STEPS + 1))
    weights = [load_file(run / f"checkpoints/step-{STEPS:08d}/policy/weights.safetensors") for run in (whole, torn)]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())
    seconds = dict(re.findall(r"^(\w+): struck at step \d+, mended after ([\d.]+) s$", printed, re.MULTILINE))
    assert set(seconds) == set(FAULTS)
    publish(
        "rlhf-faults",
        "| lost, in a PPO run of five roles on three raylets | goes on after |\n|---|---|\n"
        + "\n".join(f"| {NAMES[fault]} | {float(seconds[fault]):.0f} s |" for fault in FAULTS)
        + f"\n\nThe run ends with the same {ends[0]['updates']} optimiser steps, {ends[0]['samples']} answers and "
        "weights, bit for bit, as one that lost nothing.",
    )
