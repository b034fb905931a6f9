"""`make test`, timed: what the README says of it."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.verify.readme import ROOT, publish
from tests.verify.shell import Clock


@pytest.mark.slow
def test_make_test_passes() -> None:
    figures = []
    for target in ("test", "quick"):
        clock = Clock()
        done = subprocess.run(["make", target], cwd=ROOT, capture_output=True, text=True, timeout=3600)
        assert done.returncode == 0, done.stdout[-4000:]
        # `make test` runs pytest twice: what starts nothing, and the rest
        counts = re.findall(r"(\d+) passed", done.stdout)
        assert counts, done.stdout[-4000:]
        figures.append((sum(map(int, counts)), clock.text))
    (tests, whole), (quick, short) = figures
    publish(
        "tests",
        f"`make test` runs {tests:,} tests in {whole}; `make quick`, the {quick:,} of them that start nothing, takes "
        f"{short}.",
    )
