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
def test_losses_and_gradients_equal_trls() -> None:
    command = [str(BENCH_PYTHON), "-m", "tests.bench.trl_losses"]
    done = subprocess.run(command, cwd=ROOT, env=user_environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
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
