"""Detectors keep the run length that they are calibrated for, and find shifts, on streams drawn anew."""

from __future__ import annotations

import pytest

from raysafe.monitoring.detectors.kinds import OF_NUMBERS
from tests.bench.detectors import STATED, costs, measure, table
from tests.verify.readme import publish

RUNS = {"mmd": 400, "ks": 400, "psi": 400}
"""Of the costlier kinds fewer; the others 1,600."""
CALIBRATIONS = 8


@pytest.mark.slow
def test_detectors_keep_their_run_length_and_find_shifts() -> None:
    """400 run lengths or more of each kind on each stream; a mean of so many has an error of 5%, of 1,600 of 2.5%."""
    measured = [measure(kind, RUNS.get(kind, 1600), CALIBRATIONS) for kind in OF_NUMBERS]
    for found in measured:
        for stream, length in found.run_lengths.items():
            assert length == pytest.approx(STATED, rel=0.2), (found.kind, stream)
        assert found.delays[3.0] < found.delays[1.0]
    cost = costs()
    publish(
        "detectors",
        f"{table(measured)}\n\n"
        f"Mean values until an alarm, over 400 streams or more of each kind and {CALIBRATIONS} calibrations; "
        f"{STATED:.0f} is stated. Heavy-tailed is\nStudent's t with 3 degrees of freedom, counts are Poisson's with "
        f"mean 4; delays are on the normal stream. A value costs\n{cost['cusum']:.0f} microseconds (cusum) to "
        f"{cost['mmd']:.0f} (mmd): `python -m tests.bench.detectors`.",
    )
