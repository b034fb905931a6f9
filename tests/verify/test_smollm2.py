"""DPO on real human preferences: a real instruct model, held-out pairs, against chance and against length."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from raysafe.config import read_yaml
from raysafe.runtime.environment import describe_environment
from raysafe.runtime.run import Run
from tests.real_data import HH_RLHF, SMOLLM2
from tests.verify.readme import ROOT, publish
from tests.verify.shell import BIN, Shell, minutes

STORAGE = ROOT / "runs" / "verify-smollm2"
"""Kept: long training that was ended goes on here, and one that this very commit finished is taken."""
PRESET = ROOT / "jobs" / "presets" / "dpo_smollm2.yaml"


def earlier() -> Run | None:
    """The newest run of the preset by this very code, finished or not: other code's figure would prove nothing."""
    commit = describe_environment()["git"]
    wanted = read_yaml(PRESET) | {"model": str(SMOLLM2), "data": str(HH_RLHF)}
    for folder in sorted(STORAGE.glob("dpo-*"), reverse=True):
        run = Run.open(folder)
        if commit and run.environment["git"] == commit and _holds(run.config, wanted):
            return run
    return None


def _holds(config: object, wanted: object) -> bool:
    """Whether `config` has every value of `wanted`, at any depth."""
    if isinstance(wanted, dict):
        return isinstance(config, dict) and all(_holds(config.get(name), value) for name, value in wanted.items())
    return config == wanted


def train(shell: Shell) -> Run:
    found = earlier()
    if found is not None:
        shell.run(f"{BIN}/raysafe runs resume {found.uri}", timeout_s=7200)
        return Run.open(found.uri)
    shell.run(
        f"raysafe dpo --config jobs/presets/dpo_smollm2.yaml --model {SMOLLM2} --data {HH_RLHF} --storage {STORAGE}",
        timeout_s=7200,
    )
    run = earlier()
    assert run is not None
    return run


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM2.is_dir(), reason="SmolLM2-135M-Instruct is not in the user's cache")
@pytest.mark.skipif(not HH_RLHF.is_file(), reason="the hh-rlhf pairs are not beside the project")
def test_dpo_on_human_preferences_beats_chance_and_length_on_held_out_prompts(shell: Shell) -> None:
    run = train(shell)
    named = shell.run(
        f"raysafe evaluate {run.uri} --suite preference-accuracy --reference {SMOLLM2} "
        f"--data {run.uri}/held-out.jsonl --cpus-per-worker 2 --micro-tokens 2048",
        timeout_s=3600,
        named=True,
    )
    examined = shell.opened(named)
    found = {item.metric: item for item in examined.evidence}
    summary = json.loads(examined.folder.read("artifacts/summary.json"))
    print(json.dumps(summary, indent=1))
    accuracy, p_value = found["accuracy"], found["p_value"].value
    assert p_value < 0.01
    assert accuracy.value > found["shorter_baseline"].value
    assert accuracy.value > found["longer_baseline"].value
    publish("smollm2", _table(run, found))


def _table(run: Run, found: dict) -> str:
    accuracy = found["accuracy"]
    low, high = accuracy.interval
    rows = next(event["rows"] for event in run.events if event["event"] == "data")
    trained = next(event for event in run.events if event["event"] == "trained")
    times = [datetime.fromisoformat(event["time"]) for event in run.events]
    lines = [
        f"On {accuracy.n} held-out pairs ({rows['train']} pairs of other prompts trained on, the checkpoint of step "
        f"{trained['best_step']} of {trained['step']} chosen on",
        f"{rows['validation']} more; {minutes((times[-1] - times[0]).total_seconds())} on 2 cores):",
        "",
        "| prefers the chosen answer in | of the pairs |",
        "|---|---|",
        f"| the trained policy's implicit reward | **{accuracy.value:.1%}** ({low:.1%} to {high:.1%}; "
        f"p = {found['p_value'].value:.1g} against one half) |",
        f"| whichever answer is shorter | {found['shorter_baseline'].value:.1%} |",
        f"| whichever answer is longer | {found['longer_baseline'].value:.1%} |",
    ]
    return "\n".join(lines)
