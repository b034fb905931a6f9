"""What stands of evidence: a failure, until the same measurement reaches the threshold that was missed."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from raysafe.records.evidence import Evidence, evidence_digest, evidence_digests, unmet


def figure(value: float, **fields: Any) -> Evidence:
    known = {"suite": "win-rate", "metric": "inconsistent_rate", "n": 50, "threshold": 0.2, "better": "lower"}
    return Evidence(**{**known, "value": value, "model_digest": "m", "data_digest": "hard", **fields})


FAILED = figure(0.9, settings={"reference": "strong"})
ELSEWISE = {
    "no threshold": {"threshold": None},
    "other data": {"data_digest": "easy"},
    "another reference": {"settings": {"reference": "weak"}},
    "fewer cases": {"settings": {"reference": "strong", "limit": "3"}},
    "another figure": {"metric": "p_value"},
    "another suite": {"suite": "safety-prompts"},
}


def test_a_failure_is_made_good_by_the_same_measurement_alone() -> None:
    again = figure(0.1, settings=FAILED.settings)
    assert unmet([FAILED, again]) == []
    for how, fields in ELSEWISE.items():
        other = figure(0.0, **{"settings": FAILED.settings, **fields})
        assert unmet([FAILED, other]) == [FAILED], how


def test_an_easier_threshold_makes_no_failure_good() -> None:
    failed = figure(0.5)
    assert unmet([failed, figure(0.5, threshold=0.6)]) == [failed]
    assert unmet([failed, figure(0.15, threshold=0.6)]) == []


def test_a_stricter_threshold_that_is_missed_takes_the_place_of_one_that_is_met() -> None:
    stricter = figure(0.15, threshold=0.1)
    assert unmet([figure(0.5), stricter]) == [stricter]


def test_what_was_made_good_can_fail_again() -> None:
    worse = figure(0.8)
    assert unmet([figure(0.5), figure(0.1), worse]) == [worse]


def test_a_value_that_is_no_number_fails() -> None:
    failed = figure(float("nan"))
    assert unmet([failed]) == [failed]
    assert unmet([figure(0.5), failed]) != []


@given(
    st.lists(
        st.builds(
            figure,
            st.floats(0, 1),
            threshold=st.sampled_from([None, 0.2, 0.6]),
            data_digest=st.sampled_from(["hard", "easy"]),
        ),
        max_size=8,
    )
)
def test_what_stands_failed_and_no_later_measurement_reached_its_threshold(evidence: list[Evidence]) -> None:
    expected = [
        old
        for at, old in enumerate(evidence)
        if old.passed is False
        and not any(
            new.threshold is not None and new.data_digest == old.data_digest and new.value <= (old.threshold or 0)
            for new in evidence[at + 1 :]
        )
    ]
    assert unmet(evidence) == expected


def test_each_digest_is_that_of_the_evidence_so_far() -> None:
    evidence = [figure(0.1), figure(0.2), figure(0.3)]
    assert list(evidence_digests(evidence)) == [evidence_digest(evidence[:count]) for count in range(4)]
    assert evidence_digest(evidence[:2]) != evidence_digest([evidence[1], evidence[0]])


def test_a_field_that_a_later_version_adds_changes_no_digest() -> None:
    class Later(Evidence):
        added: str | None = None
        more: dict[str, str] = Field(default_factory=dict)

    now = figure(0.1)
    assert evidence_digest([Later(**now.model_dump())]) == evidence_digest([now])
