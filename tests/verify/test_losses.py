"""The losses against TRL's own trainers, in an environment of their own."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.verify.readme import ROOT, publish
from tests.verify.shell import user_environment

BENCH_PYTHON = ROOT / ".venv-bench" / "bin" / "python"


@pytest.mark.slow
@pytest.mark.skipif(not BENCH_PYTHON.is_file(), reason="no .venv-bench: `make bench-setup` makes it")
def test_policy_gradient_losses_equal_trls() -> None:
    found = compared("tests.bench.trl_rl_losses")
    loss, gradient = (max(result[what] for result in found.values()) for what in ("loss", "gradient"))
    assert len(found) >= 30 and max(loss, gradient) <= 1e-5
    publish(
        "trl-rl-losses",
        "The policy-gradient losses equal TRL 1.16's on the same answers and weights (GRPO, Dr. GRPO and DAPO\n"
        "averages, KL, both clips, entropy; prompts shared, packed and padded): the largest relative difference is "
        f"{loss:.0e} in the loss and\n{gradient:.0e} in its gradient (`tests/bench/trl_rl_losses.py`).",
    )


def compared(module: str) -> dict[str, dict[str, float]]:
    """Differences by case, as a script in the other environment prints them last."""
    command = [str(BENCH_PYTHON), "-m", module]
    done = subprocess.run(command, cwd=ROOT, env=user_environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not BENCH_PYTHON.is_file(), reason="no .venv-bench: `make bench-setup` makes it")
def test_losses_and_gradients_equal_trls() -> None:
    found = compared("tests.bench.trl_losses")
    kinds = {name.partition(",")[0] for name in found}
    assert kinds >= {"sigmoid", "conservative", "robust", "ipo", "hinge"}
    loss, gradient = (max(result[what] for result in found.values()) for what in ("loss", "gradient"))
    assert max(loss, gradient) <= 1e-5
    publish(
        "trl-losses",
        "All five losses and the reward model's equal TRL 1.16's on the same pairs and weights, packed and padded: "
        f"the largest\nrelative difference is {loss:.0e} in the loss and {gradient:.0e} in its gradient "
        "(`tests/bench/trl_losses.py`).",
    )
