"""Timings side by side. They are published, and no time is asserted: what must hold is that the work is equal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.real_data import HH_RLHF, STORIES
from tests.verify.readme import ROOT, publish
from tests.verify.shell import user_environment
from tests.verify.test_losses import BENCH_PYTHON


def bench(python: str | Path, out: Path, *arguments: str) -> dict[str, Any]:
    """Run a module of tests/bench that writes its figures as JSON."""
    command = [str(python), "-m", *arguments, "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=user_environment(), capture_output=True, text=True, timeout=1800)
    print(done.stdout)
    assert out.is_file(), done.stderr
    return json.loads(out.read_text())


@pytest.mark.slow
@pytest.mark.skipif(not BENCH_PYTHON.is_file(), reason="no .venv-bench: `make bench-setup` makes it")
@pytest.mark.skipif(not HH_RLHF.is_file(), reason="the hh-rlhf pairs are not beside the project")
def test_dpo_does_the_same_work_as_a_plain_loop_and_as_trl(tmp_path: Path) -> None:
    plain = bench(sys.executable, tmp_path / "plain.json", "tests.bench.dpo", "plain")
    trl = bench(BENCH_PYTHON, tmp_path / "trl.json", "tests.bench.dpo", "trl", "--data", str(HH_RLHF))
    assert plain["loss_difference"] < 1e-4
    assert trl["loss_difference"] < 1e-4
    publish(
        "dpo-speed",
        "| against | data | ratio of pairs/s | pairs/s | largest difference of the loss |\n|---|---|---|---|---|\n"
        f"| a plain PyTorch loop | equal-length random pairs | **{plain['ratio']:.2f}** | "
        f"{plain['own_pairs_per_s']:.1f} to {plain['plain_pairs_per_s']:.1f} | "
        f"{plain['loss_difference']:.0e} over {plain['steps']} steps |\n"
        f"| TRL 1.16's DPOTrainer | hh-rlhf, real lengths | **{trl['ratio']:.1f}** with the reference pass counted | "
        f"{trl['own_pairs_per_s_with_reference_pass']:.1f} to {trl['trl_pairs_per_s']:.1f} | "
        f"{trl['loss_difference']:.0e} over {trl['steps']} steps |",
    )


@pytest.mark.slow
@pytest.mark.skipif(not BENCH_PYTHON.is_file(), reason="no .venv-bench: `make bench-setup` makes it")
@pytest.mark.skipif(not STORIES.is_dir(), reason="the stories model is not beside the project")
def test_what_a_step_of_grpo_costs(tmp_path: Path) -> None:
    plain = bench(sys.executable, tmp_path / "plain.json", "tests.bench.rlhf", "plain")
    trl = bench(BENCH_PYTHON, tmp_path / "trl.json", "tests.bench.rlhf", "trl")
    sync = bench(sys.executable, tmp_path / "sync.json", "tests.bench.weight_sync")
    sides = {
        "a plain PyTorch loop, equal lengths": plain["equal"],
        "TRL 1.16's GRPOTrainer, equal lengths": trl["equal"],
        "TRL 1.16's GRPOTrainer, uneven lengths": trl["uneven"],
    }
    rows = [
        f"| {name} | **{found['ratio']:.2f}** | {found['own_samples_per_cpu_s']:.1f} to "
        f"{found['other_samples_per_cpu_s']:.1f} | {found['own_cpu_s_per_step']:.2f} to "
        f"{found['other_cpu_s_per_step']:.2f} | {found['length']:.0f} | {found['overhead']:.1%} |"
        for name, found in sides.items()
    ]
    publish(
        "grpo-speed",
        "| GRPO against | ratio of answers per CPU second | answers per CPU s | CPU s a step | tokens an answer | "
        "of a step outside generation, scoring and gradients |\n|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + f"\n\n100 MB of weights go from trainer to engine, on one node, in {sync['wall_ms']:.0f} ms "
        f"({sync['cpu_ms']:.0f} ms of CPU).",
    )


@pytest.mark.slow
def test_what_guards_and_audit_log_cost(tmp_path: Path) -> None:
    found = bench(sys.executable, tmp_path / "serve.json", "tests.bench.serve")
    rows = [
        f"| {name} | {mode['empty']['p50_ms']:.2f} ms | {mode['added']['p50_ms']:.2f} ms | "
        f"{mode['added']['cpu_ms_per_1000_characters']:.2f} ms |"
        for name, mode in (("whole answers", found["whole"]), ("streamed answers", found["stream"]))
    ]
    publish(
        "gateway-cost",
        "| 1,000 characters in, 1,000 out | p50 of an empty pipeline | guards and audit add to p50 | and CPU per 1,000 "
        "characters |\n|---|---|---|---|\n" + "\n".join(rows),
    )
