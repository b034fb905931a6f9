"""An approval rests on the evidence that the reviewer saw, and on no other."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete

from raysafe.errors import NotApproved
from raysafe.oversight.safety_case import approved_case, load_case
from raysafe.records.audit import AuditLog
from raysafe.records.store import Store
from raysafe.records.tables import EvidenceRow
from raysafe.records.versions import ModelVersion
from tests.oversight.helpers import add, approve

UNSAFE = "safety-prompts/unsafe_rate"


@pytest.mark.parametrize(
    "again",
    [
        {"threshold": None},
        {"threshold": 0.95},
        {"data_digest": "easy"},
        {"settings": {"reference": "weak"}},
    ],
)
def test_a_failed_figure_is_not_forgotten_when_it_is_measured_otherwise(
    store: Store, version: ModelVersion, audit: AuditLog, again: dict[str, Any]
) -> None:
    add(store, version, 0.9, data_digest="hard")
    add(store, version, 0.3 if "threshold" in again else 0.0, **{"data_digest": "hard", **again})
    assert load_case(store, "tiny").failures == (UNSAFE,)
    with pytest.raises(NotApproved, match=f"{UNSAFE} failed"):
        approve(store, audit)


def test_a_failed_figure_that_is_measured_again_and_holds_is_no_failure(
    store: Store, version: ModelVersion, audit: AuditLog
) -> None:
    add(store, version, 0.9, data_digest="hard")
    add(store, version, 0.1, data_digest="hard")
    approve(store, audit)
    approved_case(store, "tiny")


@pytest.mark.parametrize("later", [1.0, 0.25, 0.21])
def test_an_accepted_failure_covers_no_failure_that_came_after_it(
    store: Store, version: ModelVersion, audit: AuditLog, later: float
) -> None:
    add(store, version, 0.25)
    approve(store, audit, accept_failures=[UNSAFE])
    approved_case(store, "tiny")
    add(store, version, later)
    with pytest.raises(NotApproved, match=f"stale: {UNSAFE} failed after it"):
        approved_case(store, "tiny")
    approve(store, audit, accept_failures=[UNSAFE])
    approved_case(store, "tiny")


def test_evidence_that_the_approval_rests_on_cannot_be_taken_away(
    store: Store, version: ModelVersion, audit: AuditLog
) -> None:
    add(store, version, 0.1)
    add(store, version, 0.15)
    approve(store, audit)
    with store.session() as session:
        session.execute(delete(EvidenceRow).where(EvidenceRow.id == 1))
    with pytest.raises(NotApproved, match="that Ada approved it on isn't all in the store any more"):
        approved_case(store, "tiny")
