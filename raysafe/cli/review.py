"""`raysafe review list | show | approve | reject`."""

from __future__ import annotations

from typing import Annotated

import tyro

from raysafe.cli.arguments import AsJson, Reviewer, Store
from raysafe.cli.output import print_json, print_table
from raysafe.control.capabilities import Capabilities
from raysafe.control.capability_guard import describe
from raysafe.oversight.decisions import CHAIN, DecisionLog, Outcome
from raysafe.oversight.review import decide, named_reviewer
from raysafe.oversight.safety_case import SafetyCase, load_case, why_not
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.registry import Registry
from raysafe.records.store import default_url, open_store

Reason = Annotated[str, tyro.conf.arg(help="Why; kept with the decision and in the audit log.")]
AcceptFailed = Annotated[
    tuple[str, ...], tyro.conf.arg(help="Failed figures, as suite/metric, that the approval passes over knowingly.")
]

Grant = Annotated[
    str | None,
    tyro.conf.arg(help="A YAML file of capabilities that the approval grants; none: text alone, and no tool."),
]


def main(argv: list[str]) -> int:
    """Run one of the subcommands."""
    commands = {"list": list_cases, "show": show, "approve": approve, "reject": reject}
    return tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog="raysafe review", description=__doc__)


def list_cases(*, store: Store = None, as_json: AsJson = False) -> int:
    """Every version's decision, and what stands against serving it."""
    with open_store(store) as opened:
        cases = [load_case(opened, v.label) for v in Registry(opened).list()]
        log = DecisionLog(audit_folder(opened.url))
    refusals = [why_not(case, log) for case in cases]
    if as_json:
        print_json([{"model": c.version.label, "refusal": r} for c, r in zip(cases, refusals, strict=True)])
        return 0
    rows = [
        (c.version.label, c.decision.outcome if c.decision else "open", refusal or "may be served")
        for c, refusal in zip(cases, refusals, strict=True)
    ]
    print_table(("model", "decision", "serving"), rows)
    return 0


def show(model: tyro.conf.Positional[str], *, store: Store = None, as_json: AsJson = False) -> int:
    """A safety case: lineage, evidence, capabilities, decisions."""
    with open_store(store) as opened:
        case = load_case(opened, model)
        refusal = why_not(case, DecisionLog(audit_folder(opened.url)))
    if as_json:
        print_json(case.model_dump(mode="json") | {"refusal": refusal, "failures": case.failures})
        return 0
    _print_case(case, refusal)
    return 0


def approve(
    model: tyro.conf.Positional[str],
    *,
    reason: Reason,
    reviewer: Reviewer = None,
    accept_failed: AcceptFailed = (),
    capabilities: Grant = None,
    store: Store = None,
) -> int:
    """Let a version be served, on the evidence that is there now. Say NAME:NUMBER where a name has several versions."""
    granted = None if capabilities is None else Capabilities.load(capabilities)
    return _decide(model, "approved", reason, reviewer, store, accept_failed, granted)


def reject(model: tyro.conf.Positional[str], *, reason: Reason, reviewer: Reviewer = None, store: Store = None) -> int:
    """Keep a version's files from being served, under any name."""
    return _decide(model, "rejected", reason, reviewer, store, ())


def _decide(
    model: str,
    outcome: Outcome,
    reason: str,
    reviewer: str | None,
    store: str | None,
    accepted: tuple[str, ...],
    granted: Capabilities | None = None,
) -> int:
    name = named_reviewer(reviewer)
    url = store or default_url()
    with open_store(url) as opened, AuditLog(audit_folder(url), writer=CHAIN, unique=True) as audit:
        case = decide(
            opened,
            audit,
            model,
            outcome,
            reviewer=name,
            reason=reason,
            accept_failures=accepted,
            capabilities=granted,
        )
        refusal = why_not(case, DecisionLog(audit.folder))
    print(f"{case.version.label} {outcome} by {name}")
    if outcome == "approved":
        print(f"not served yet: {refusal}" if refusal else f"next: raysafe serve {case.version.label}")
    return 0


def _print_case(case: SafetyCase, refusal: str | None) -> None:
    version = case.version
    facts = [
        ("model", version.label),
        ("digest", version.digest),
        ("serving", refusal or "may be served"),
        ("failed", ", ".join(case.failures) or "nothing"),
        ("ancestors", " <- ".join(a.label for a in case.lineage) or "none registered"),
        *((f"made from {i['kind']}", f"{i['uri']}  sha256 {i['sha256'][:12]}") for i in version.inputs),
    ]
    print_table(("what", "value"), facts)
    verdicts = {True: "passed", False: "FAILED", None: ""}
    rows = [
        (
            e.suite,
            e.metric,
            f"{e.value:.4g}",
            f"{e.interval[0]:.3f} to {e.interval[1]:.3f}" if e.interval else "",
            e.n,
            (e.data_digest or "")[:8],
            "" if e.threshold is None else f"{'at least' if e.better == 'higher' else 'at most'} {e.threshold:g}",
            verdicts[e.passed],
        )
        for e in case.evidence
    ]
    print_table(("suite", "figure", "value", "95% interval", "n", "data", "threshold", ""), rows, title="Evidence")
    decisions = [(f"{d.time:%Y-%m-%d %H:%M}", d.label, d.outcome, d.reviewer, d.reason) for d in case.history]
    print_table(("time", "model", "decision", "reviewer", "reason"), decisions, title="Decisions")
    print_table(("capability", "granted"), describe(case.capabilities), title="Capabilities")
