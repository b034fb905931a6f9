"""Deciding on a safety case. `decide` is the one way in: a single reviewer calls it today, a committee's vote will."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from raysafe.errors import ConfigError, NotApproved
from raysafe.oversight.capabilities import Capabilities
from raysafe.oversight.safety_case import Outcome, SafetyCase, evidence_digest, load_case
from raysafe.records.audit import AuditLog
from raysafe.records.registry import Registry
from raysafe.records.store import Store
from raysafe.records.tables import DecisionRow


def decide(
    store: Store,
    audit: AuditLog,
    reference: str,
    outcome: Outcome,
    *,
    reviewer: str,
    reason: str,
    accept_failures: Sequence[str] = (),
    capabilities: Capabilities | None = None,
) -> SafetyCase:
    """Approve or reject a version; the audit row is durable before the decision is in force.

    Raises ConfigError without a reviewer or reason, NotApproved where an approval would pass over a failed figure that
    it doesn't name in `accept_failures` (as suite/metric), ModelError where the model's files have changed.
    """
    if not reviewer.strip() or not reason.strip():
        raise ConfigError("a decision needs a named reviewer and a reason: give --reviewer and --reason")
    case = load_case(store, reference)
    Registry(store).check_files(case.version)
    strange = sorted(set(accept_failures) - set(case.failures))
    if strange:
        failed = ", ".join(case.failures) or "none"
        raise ConfigError(f"accept_failures names {', '.join(strange)}, which didn't fail; failed: {failed}")
    ignored = [name for name in case.failures if name not in accept_failures]
    if outcome == "approved" and ignored:
        raise NotApproved(
            f"{case.version.label} can't be approved: {', '.join(ignored)} failed; "
            "reject it, or name each with --accept-failed"
        )
    details = {
        "model": case.version.label,
        "digest": case.version.digest,
        "reason": reason,
        "evidence": evidence_digest(case.evidence),
        "accepted_failures": list(accept_failures),
        "capabilities": (capabilities or Capabilities()).model_dump(mode="json"),
    }
    row = audit.append(outcome, reviewer, case.version.label, details)
    with store.session() as session:
        session.add(
            DecisionRow(
                version_id=case.version.id,
                outcome=outcome,
                reviewer=reviewer,
                reason=reason,
                accepted_failures=list(accept_failures),
                capabilities=details["capabilities"],
                evidence_digest=details["evidence"],
                audit_hash=row.hash,
                time=datetime.now(UTC),
            )
        )
    return load_case(store, case.version.label)


def named_reviewer(given: str | None) -> str:
    """The reviewer given, or RAYSAFE_REVIEWER; raises ConfigError, for a decision is never anonymous."""
    name = (given or os.environ.get("RAYSAFE_REVIEWER", "")).strip()
    if not name:
        raise ConfigError("who decides? Give --reviewer NAME or set RAYSAFE_REVIEWER")
    return name
