"""Safety cases: nothing is served without a named approval that binds to the files and to the evidence seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysafe.cli.main import main
from raysafe.control.capabilities import Capabilities
from raysafe.errors import ConfigError, ModelError, NotApproved
from raysafe.oversight.review import decide
from raysafe.oversight.safety_case import approved_case, load_case
from raysafe.records.audit import AuditLog, read_rows
from raysafe.records.registry import Registry
from raysafe.records.store import Store
from raysafe.records.versions import ModelVersion
from tests.oversight.helpers import approve, figure
from tests.records.test_registry import make_run


def test_a_model_without_a_review_is_refused_with_the_way_on(store: Store, version: ModelVersion) -> None:
    with pytest.raises(NotApproved, match="tiny:1 has not been reviewed: see `raysafe review show tiny:1`"):
        approved_case(store, "tiny")


def test_an_approval_lets_the_version_be_served_and_is_audited_first(
    store: Store, version: ModelVersion, audit: AuditLog, tmp_path: Path
) -> None:
    granted = Capabilities(tools=("search",), autonomy=1)
    approve(store, audit, capabilities=granted)
    case = approved_case(store, "tiny")
    assert case.capabilities == granted
    assert case.decision is not None and case.decision.reviewer == "Ada"
    [row] = [row for _, row in read_rows(tmp_path / "audit" / "review.jsonl")]
    assert row is not None and row["hash"] == case.decision.audit_hash
    assert (row["kind"], row["actor"], row["subject"]) == ("approved", "Ada", "tiny:1")
    assert row["details"]["digest"] == version.digest


def test_no_decision_is_in_force_where_its_audit_row_cannot_be_written(
    store: Store, version: ModelVersion, audit: AuditLog
) -> None:
    audit.close()
    with pytest.raises(Exception, match="closed"):
        approve(store, audit)
    assert load_case(store, "tiny").history == ()


def test_another_version_is_not_covered(store: Store, version: ModelVersion, audit: AuditLog, tmp_path: Path) -> None:
    approve(store, audit)
    Registry(store).register(make_run(tmp_path / "next", weights="other"), name="tiny")
    with pytest.raises(NotApproved, match="tiny:2 has not been reviewed"):
        approved_case(store, "tiny")
    approved_case(store, "tiny:1")


def test_changed_files_cannot_be_approved(store: Store, version: ModelVersion, audit: AuditLog, tmp_path: Path) -> None:
    (tmp_path / "run" / "model" / "model.safetensors").write_text("other")
    with pytest.raises(ModelError, match="has changed since it was registered"):
        approve(store, audit)


def test_a_failed_figure_blocks_approval_unless_it_is_named(
    store: Store, version: ModelVersion, audit: AuditLog
) -> None:
    Registry(store).add_evidence(version, [figure(version, 0.5)])
    with pytest.raises(NotApproved, match="safety-prompts/unsafe_rate failed"):
        approve(store, audit)
    with pytest.raises(ConfigError, match="names win-rate/wins, which didn't fail"):
        approve(store, audit, accept_failures=["win-rate/wins"])
    approve(store, audit, accept_failures=["safety-prompts/unsafe_rate"])
    approved_case(store, "tiny")


def test_evidence_that_fails_after_the_approval_makes_it_stale(
    store: Store, version: ModelVersion, audit: AuditLog
) -> None:
    registry = Registry(store)
    registry.add_evidence(version, [figure(version, 0.1)])
    approve(store, audit)
    registry.add_evidence(version, [figure(version, 0.15)])
    approved_case(store, "tiny")
    registry.add_evidence(version, [figure(version, 0.3)])
    with pytest.raises(NotApproved, match="stale: safety-prompts/unsafe_rate failed"):
        approved_case(store, "tiny")
    registry.add_evidence(version, [figure(version, 0.05)])
    approved_case(store, "tiny")


def test_the_latest_decision_counts_and_the_history_stays(store: Store, version: ModelVersion, audit: AuditLog) -> None:
    approve(store, audit)
    decide(store, audit, "tiny", "rejected", reviewer="Bo", reason="found a hole")
    with pytest.raises(NotApproved, match="rejected by Bo: found a hole"):
        approved_case(store, "tiny")
    assert [d.outcome for d in load_case(store, "tiny").history] == ["approved", "rejected"]


@pytest.mark.parametrize(("reviewer", "reason"), [("", "fine"), ("Ada", " ")])
def test_a_decision_needs_a_name_and_a_reason(
    store: Store, version: ModelVersion, audit: AuditLog, reviewer: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match="named reviewer and a reason"):
        decide(store, audit, "tiny", "approved", reviewer=reviewer, reason=reason)


def test_the_command_line_goes_the_same_way(
    url: str, version: ModelVersion, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["review", "approve", "tiny", "--reason", "figures hold"]) == 2
    assert "who decides? Give --reviewer NAME" in capsys.readouterr().err
    assert main(["review", "approve", "tiny", "--reason", "figures hold", "--reviewer", "Ada"]) == 0
    assert main(["review", "show", "tiny"]) == 0
    assert "may be served" in capsys.readouterr().out
    monkeypatch.setenv("RAYSAFE_REVIEWER", "Bo")
    assert main(["review", "reject", "tiny:1", "--reason", "no longer"]) == 0
    assert main(["review", "list"]) == 0
    assert "tiny:1 was rejected by Bo: no longer" in capsys.readouterr().out
    assert main(["registry", "list"]) == 0
    assert "rejected" in capsys.readouterr().out
    assert main(["audit", "verify"]) == 0
