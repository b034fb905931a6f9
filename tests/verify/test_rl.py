"""Agents in environments: the preset as the README shows it, and the race against Stable-Baselines3."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from raysafe.runtime.run import Run
from tests.verify.readme import ROOT, publish
from tests.verify.shell import Shell, user_environment

PEER = ROOT / ".venv-rl" / "bin" / "python"


@pytest.mark.slow
def test_the_preset_balances_the_pole(shell: Shell) -> None:
    run = Run.open(shell.folder / shell.run("raysafe rl --config jobs/presets/rl_tiny.yaml", named=True))
    assert run.status == "finished"
    assert max(row.get("evaluation/return", 0.0) for row in run.metrics) >= 475
    shell.run("raysafe rl --env Pendulum-v1 --algorithm dqn", code=2)
    publish("rl", shell.transcript())


@pytest.mark.slow
@pytest.mark.skipif(not PEER.is_file(), reason="no .venv-rl: `make bench-rl` makes it")
def test_cartpole_takes_fewer_cpu_seconds_than_with_stable_baselines(tmp_path: Path) -> None:
    out = tmp_path / "rl.json"
    command = [sys.executable, "-m", "tests.bench.rl", "--peers", str(PEER), "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=user_environment(), capture_output=True, text=True, timeout=3600)
    print(done.stdout)
    assert out.is_file(), done.stderr
    found = json.loads(out.read_text())
    rows = ["| on CartPole-v1, to a mean return of 475 | seeds | CPU seconds | ratio | steps a CPU second | ratio |"]
    rows.append("|---|---|---|---|---|---|")
    for algorithm, figures in found.items():
        assert figures["reached"] == figures["seeds"]
        rows.append(
            f"| {algorithm.upper()} | {figures['reached']} of {figures['seeds']} | {figures['cpu_s']:.1f} against "
            f"{figures['peer_cpu_s']:.1f} | **{figures['cpu_ratio']:.2f}** | {figures['speed']:,.0f} against "
            f"{figures['peer_speed']:,.0f} | **{figures['speed_ratio']:.1f}** |"
        )
    publish("rl-speed", "\n".join(rows))
