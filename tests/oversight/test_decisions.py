"""The store's decisions count where the audit log's last word is the same."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from raysafe.cli.main import main
from raysafe.errors import NotApproved
from raysafe.oversight.safety_case import approved_case
from raysafe.records import audit_verify
from raysafe.records.audit import AuditLog
from raysafe.records.evidence import evidence_digest
from raysafe.records.registry import Registry
from raysafe.records.store import Store
from raysafe.records.tables import DecisionRow, VersionRow
from raysafe.records.versions import ModelVersion
from tests.oversight.helpers import add, approve, reject
from tests.records.test_registry import make_run


def forge(store: Store, version: ModelVersion, audit_hash: str = "0" * 64) -> None:
    """An approval written into the store alone."""
    nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # sha256 of no evidence
    fields: dict[str, Any] = {"reason": "-", "accepted_failures": [], "capabilities": {}, "evidence_digest": nothing}
    with store.session() as session:
        session.add(
            DecisionRow(
                version_id=version.id,
                outcome="approved",
                reviewer="Ada",
                audit_hash=audit_hash,
                time=datetime.now(UTC),
                **fields,
            )
        )


def change(store: Store, **values: Any) -> None:
    with store.session() as session:
        session.execute(update(DecisionRow).values(**values))


def refused(store: Store, message: str, reference: str = "tiny:1") -> None:
    """By serving, and by `raysafe audit verify`."""
    with pytest.raises(NotApproved, match=message):
        approved_case(store, reference)
    assert main(["audit", "verify"]) == 1


def test_the_log_confirms_what_was_decided(store: Store, version: ModelVersion, audit: AuditLog, capsys: Any) -> None:
    reject(store, audit)
    approve(store, audit)
    approved_case(store, "tiny")
    assert main(["audit", "verify"]) == 0
    assert "the store's decisions are those of the log" in capsys.readouterr().out


def test_an_approval_that_the_log_does_not_know_is_refused(
    store: Store, version: ModelVersion, audit: AuditLog
) -> None:
    forge(store, version)
    refused(store, r"the store says that Ada approved tiny:1 \(row 000000000000\), and the audit log .* knows nothing")


def test_an_approval_after_a_rejection_that_the_log_does_not_know_is_refused(
    store: Store, version: ModelVersion, audit: AuditLog
) -> None:
    approve(store, audit)
    reject(store, audit)
    with store.session() as session:
        first = session.get_one(DecisionRow, 1).audit_hash
    forge(store, version, audit_hash=first)
    refused(store, r"Ada approved tiny:1 .*, and the last word .* is Bo's rejection of tiny:1 \(row 2 of 'review'\)")


def test_a_rejection_that_was_deleted_from_the_store_is_found(
    store: Store, version: ModelVersion, audit: AuditLog, tmp_path: Path
) -> None:
    approve(store, audit)
    reject(store, audit)
    with store.session() as session:
        session.execute(delete(DecisionRow).where(DecisionRow.outcome == "rejected"))
    refused(store, "Ada approved tiny:1 .* the last word in the audit log .* is Bo's rejection of tiny:1")
    # the other name of the same files is no way round, nor is it where version and rejection are gone altogether
    approve(store, audit, Registry(store).register(tmp_path / "run", name="copy")[0].label)
    refused(store, "Bo's rejection of tiny:1", "copy:1")
    with store.session() as session:
        session.execute(delete(DecisionRow).where(DecisionRow.version_id == version.id))
        session.execute(delete(VersionRow).where(VersionRow.id == version.id))
    refused(store, "holds Bo's rejection of tiny:1 .*, and the store no decision of tiny:1 on them", "copy:1")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"reviewer": "Eve"}, "reviewer"),
        ({"reason": "all is well"}, "reason"),
        ({"accepted_failures": ["safety-prompts/unsafe_rate"]}, "accepted_failures"),
        ({"capabilities": {"tools": ["shell"]}}, "capabilities"),
    ],
)
def test_a_decision_that_was_changed_in_the_store_is_refused(
    store: Store, version: ModelVersion, audit: AuditLog, values: dict[str, Any], field: str
) -> None:
    approve(store, audit)
    change(store, **values)
    refused(store, f"and Ada's approval of tiny:1 .* has another {field}:")


def test_a_rejection_that_was_turned_in_the_store_is_refused(
    store: Store, version: ModelVersion, audit: AuditLog
) -> None:
    reject(store, audit)
    change(store, outcome="approved")
    refused(store, "Bo approved tiny:1 .* Bo's rejection of tiny:1 .* has another outcome")


def test_accepted_evidence_cannot_be_widened_in_the_store(store: Store, version: ModelVersion, audit: AuditLog) -> None:
    approve(store, audit)
    add(store, version, 0.9)
    seen = evidence_digest(Registry(store).evidence(version))
    change(store, accepted_failures=["safety-prompts/unsafe_rate"], evidence_digest=seen)
    refused(store, "has another accepted_failures, evidence_digest")


def cut(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def turn(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"kind":"rejected"', b'"kind":"verdict"'))


@pytest.mark.parametrize("tamper", [cut, turn, Path.unlink])
def test_a_chain_of_decisions_that_was_tampered_with_confirms_nothing(
    store: Store, version: ModelVersion, tmp_path: Path, tamper: Callable[[Path], object]
) -> None:
    with AuditLog(tmp_path / "audit", "review") as audit:
        approve(store, audit)
        reject(store, audit)
    with store.session() as session:
        session.execute(delete(DecisionRow).where(DecisionRow.outcome == "rejected"))
    tamper(tmp_path / "audit" / "review.jsonl")
    refused(store, r"the audit log of decisions in .* is broken \(review: ")


def test_the_latest_of_several_chains_has_the_last_word(store: Store, version: ModelVersion, audit: AuditLog) -> None:
    with AuditLog(audit.folder, "review", unique=True) as second:
        assert second.writer == "review-2"
        reject(store, second)
        approve(store, audit)
        approved_case(store, "tiny")
        reject(store, second)
        with pytest.raises(NotApproved, match="rejected by Bo"):
            approved_case(store, "tiny")


def test_reviewers_who_decide_at_once_leave_one_last_word(store: Store, version: ModelVersion, tmp_path: Path) -> None:
    def act(number: int) -> None:
        with AuditLog(tmp_path / "audit", "review", unique=True) as log:
            (reject if number % 2 else approve)(store, log)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(act, range(12)))
    assert main(["audit", "verify"]) == 0


def test_a_log_in_another_place_is_asked_for(
    store: Store, version: ModelVersion, audit: AuditLog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    approve(store, audit)
    monkeypatch.setenv("RAYSAFE_AUDIT", str(tmp_path / "other"))
    with pytest.raises(NotApproved, match=r"the audit log in .*other knows nothing of it: set RAYSAFE_AUDIT"):
        approved_case(store, "tiny")


def test_a_store_that_was_begun_anew_asks_for_new_decisions_and_no_more(
    store: Store, version: ModelVersion, audit: AuditLog, tmp_path: Path
) -> None:
    approve(store, audit)
    with store.session() as session:
        session.execute(delete(DecisionRow))
    with pytest.raises(NotApproved, match="has not been reviewed"):
        approved_case(store, "tiny")
    assert main(["audit", "verify"]) == 0


def test_a_gateways_chains_are_not_read(
    store: Store, version: ModelVersion, audit: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    approve(store, audit)
    with AuditLog(audit.folder, "gateway-tiny") as gateway:
        gateway.append("verdict", "gateway", "a request", {})
    read: list[str] = []
    lines = audit_verify.read_lines
    monkeypatch.setattr(audit_verify, "read_lines", lambda path: (read.append(path.name), lines(path))[1])
    approved_case(store, "tiny")
    assert read == ["review.jsonl"]


def test_verification_finds_what_is_wrong_with_any_model(
    store: Store, version: ModelVersion, audit: AuditLog, tmp_path: Path, capsys: Any
) -> None:
    approve(store, audit)
    for name in "ab":
        forge(store, Registry(store).register(make_run(tmp_path / name, weights=name), name=name)[0])
    assert main(["audit", "verify"]) == 1
    out = capsys.readouterr().out
    assert all(f"Ada approved {name}:1" in out for name in "ab") and "tiny:1" not in out
