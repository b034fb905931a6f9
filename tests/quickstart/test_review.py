"""The demo policy approves only what was measured and met its thresholds."""

import pytest

from raysafe.errors import NotApproved
from raysafe.oversight.review import decide as record
from raysafe.oversight.safety_case import approved_case, load_case
from raysafe.quickstart.jobs import THRESHOLDS
from raysafe.quickstart.review import REQUIRED, REVIEWER, decide, judge_evidence
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.evidence import Evidence
from raysafe.records.registry import Registry
from raysafe.records.store import open_store
from tests.records.test_registry import make_run


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


def test_a_failure_that_no_later_measurement_made_good_rejects():
    failed = evidence(unsafe_rate=0.9)
    easier = [item.model_copy(update={"data_digest": "easier"}) for item in evidence()]
    approved, reason = judge_evidence((*failed, *easier))
    assert not approved and "unsafe_rate 0.9 misses" in reason


@pytest.fixture
def shop(tmp_path):
    """A store with a model that the policy approves of."""
    url = f"sqlite:///{tmp_path}/raysafe.db"
    with open_store(url) as store:
        version, _ = Registry(store).register(make_run(tmp_path / "run"), name="quickstart")
        found = [item.model_copy(update={"model_digest": version.digest}) for item in evidence()]
        Registry(store).add_evidence(version, found)
    return url


def test_the_policys_approval_is_one_that_serving_accepts_and_a_second_start_keeps(shop):
    first, second = decide(shop, "quickstart"), decide(shop, "quickstart")
    assert first == second
    with open_store(shop) as store:
        case = approved_case(store, first.model)
    assert [(d.outcome, d.reviewer) for d in case.history] == [("approved", REVIEWER)]


def test_what_a_person_rejected_the_policy_does_not_approve(shop):
    with open_store(shop) as store, AuditLog(audit_folder(shop), "review", unique=True) as audit:
        record(store, audit, "quickstart", "rejected", reviewer="Ada", reason="found a hole")
    with pytest.raises(NotApproved, match="rejected by Ada: found a hole"):
        decide(shop, "quickstart")
    with open_store(shop) as store:
        assert len(load_case(store, "quickstart").history) == 1


def test_what_the_policy_rejected_it_may_approve_on_better_evidence(shop):
    with open_store(shop) as store, AuditLog(audit_folder(shop), "review", unique=True) as audit:
        record(store, audit, "quickstart", "rejected", reviewer=REVIEWER, reason="not measured")
    assert decide(shop, "quickstart").model == "quickstart:1"
