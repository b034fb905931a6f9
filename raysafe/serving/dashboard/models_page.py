"""Registered models, each with its safety case: lineage, evidence, capabilities, decisions; and a decision on it."""

from __future__ import annotations

from typing import NamedTuple

import yaml
from starlette.responses import Response

from raysafe.control.capabilities import Capabilities
from raysafe.control.capability_guard import describe
from raysafe.errors import ConfigError, NotApproved
from raysafe.oversight.decisions import CHAIN, DecisionLog, Outcome
from raysafe.oversight.review import decide as decide_on
from raysafe.oversight.safety_case import SafetyCase, load_case, why_not
from raysafe.records.audit import AuditLog
from raysafe.records.evidence import evidence_digest
from raysafe.records.registry import Registry
from raysafe.serving.dashboard.office import Office, Visit, in_thread


class Standing(NamedTuple):
    """A safety case and what stands against serving the model; None where nothing does."""

    case: SafetyCase
    refusal: str | None


async def every(visit: Visit) -> Response:
    """Every version, the newest of each name first."""
    return await visit.page("models.html", "Models", standings=await in_thread(_standings, visit.office))


async def show(visit: Visit) -> Response:
    """One safety case; raises ModelError for an unknown version."""
    case, refusal = await in_thread(_standing, visit.office, visit.request.path_params["label"])
    granted = case.capabilities.model_dump(mode="json", exclude_defaults=True)
    return await visit.page(
        "model.html",
        f"Safety case of {case.version.label}",
        case=case,
        refusal=refusal,
        seen=evidence_digest(case.evidence),
        capabilities=describe(case.capabilities),
        granted=yaml.safe_dump(granted, sort_keys=False) if granted else "",
        may_decide=visit.key.reviews_all,
    )


async def decide(visit: Visit) -> Response:
    """Approve or reject a version on the evidence that was shown; raises what oversight.review.decide does."""
    if not visit.key.reviews_all:
        raise NotApproved(
            "a model is served to every tenant: only the house's own reviewers and operators decide on it"
        )
    outcome: Outcome = visit.form.one_of("outcome", "approved", "rejected")
    label = visit.request.path_params["label"]
    reason, accepted = visit.form.note(), visit.form.all("accepted")
    granted = _capabilities(visit.form.get("capabilities"))

    def work(office: Office) -> None:
        with AuditLog(office.audit_folder, writer=CHAIN, unique=True) as log:
            if evidence_digest(load_case(office.store, label).evidence) != visit.form.get("seen"):
                raise ConfigError(f"the evidence on {label} has changed since this page was shown: read it again")
            decide_on(
                office.store,
                log,
                label,
                outcome,
                reviewer=visit.key.id,
                reason=reason,
                accept_failures=accepted,
                capabilities=granted,
            )

    await in_thread(work, visit.office)
    return visit.go(f"models/{label}", outcome)


def _capabilities(text: str) -> Capabilities:
    """What a form grants; raises ConfigError."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the capabilities are no YAML: {str(error).splitlines()[0]}") from None
    if found is not None and not isinstance(found, dict):
        raise ConfigError(f"the capabilities must be names and values, such as 'autonomy: 1', got '{text[:40]}'")
    return Capabilities.parse(found or {}, "the capabilities")


def _standings(office: Office) -> list[Standing]:
    log = DecisionLog(office.audit_folder)
    cases = [load_case(office.store, version.label) for version in Registry(office.store).list()]
    found = [Standing(case, why_not(case, log)) for case in cases]
    return sorted(found, key=lambda s: (s.case.version.name, -s.case.version.version))


def _standing(office: Office, label: str) -> Standing:
    case = load_case(office.store, label)
    return Standing(case, why_not(case, DecisionLog(office.audit_folder)))
