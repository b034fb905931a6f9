"""How soon a program begins in a sandbox, and what of it the README shows."""

from __future__ import annotations

import statistics

import pytest

from raysafe.control.sandbox.policy import Policy
from tests.bench.sandbox import COLD, WARM, measure, table
from tests.verify.readme import publish


@pytest.mark.slow
def test_a_sandbox_that_waits_costs_little_more_than_a_subprocess() -> None:
    found = measure(100, Policy())
    publish("sandbox-start", table(found))
    assert statistics.median(found[WARM]) <= 40
    assert statistics.median(found[COLD]) <= 150
