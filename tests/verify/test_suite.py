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
        last = done.stdout.rstrip().splitlines()[-1]
        assert done.returncode == 0, done.stdout[-4000:]
        count = re.search(r"(\d+) passed", last)
        assert count, last
        figures.append((count[1], clock.text))
    (tests, whole), (quick, short) = figures
    publish(
        "tests",
        f"`make test` runs {tests} tests in {whole}; `make quick`, the {quick} of them that start nothing, takes "
        f"{short}.",
    )
