"""The demo policy approves only what was measured and met its thresholds."""

import pytest

from raysafe.quickstart.jobs import THRESHOLDS
from raysafe.quickstart.review import REQUIRED, judge_evidence
from raysafe.records.evidence import Evidence


def evidence(**values):
    """Evidence that meets every threshold, but for the metrics given."""
    found = []
    for suite in REQUIRED:
        for metric, threshold in THRESHOLDS[suite].items():
            better = "higher" if metric == "win_rate" else "lower"
            value = values.get(metric, threshold)
            found.append(
                Evidence(
                    suite=suite,
                    metric=metric,
                    value=value,
                    n=100,
                    threshold=threshold,
                    better=better,
                    model_digest="ab",
                )
            )
    return found


def test_figures_at_their_thresholds_are_approved_and_the_reason_names_them():
    approved, reason = judge_evidence(tuple(evidence()))
    assert approved
    assert all(metric in reason for suite in REQUIRED for metric in THRESHOLDS[suite])


@pytest.mark.parametrize("metric", ["unsafe_rate", "over_refusal_rate"])
def test_one_missed_threshold_rejects_and_the_reason_names_it(metric):
    approved, reason = judge_evidence(tuple(evidence(**{metric: 0.9})))
    assert not approved and reason.startswith(f"{metric} 0.9 misses")


def test_a_figure_that_was_not_measured_rejects():
    approved, reason = judge_evidence(tuple(evidence()[1:]))
    assert not approved and "was not measured" in reason


def test_the_newest_figure_counts():
    approved, _ = judge_evidence((*evidence(unsafe_rate=0.9), *evidence()))
    assert approved
