"""How soon a program begins in a sandbox, and what of it the README shows."""

from __future__ import annotations

import pytest

from raysafe.control.sandbox.policy import Policy
from tests.bench.sandbox import COLD, WARM, measure, table
from tests.verify.readme import publish


@pytest.mark.slow
def test_every_program_begins_and_how_soon_is_shown() -> None:
    found = measure(100, Policy())
    publish("sandbox-start", table(found))
    assert len(found[WARM]) == len(found[COLD]) == 100
