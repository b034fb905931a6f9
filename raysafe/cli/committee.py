"""`raysafe committee …`: members and their keys, the standing policy, and reviews from submission to appeal.

A committee is founded by its first member, a chair (join --role chair), who admits the others and sets the policy.
From then on `raysafe review approve` is refused: models are submitted, assessed stage by stage, voted on, and closed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import tyro

from raysafe.cli.arguments import AsJson, By, Store
from raysafe.cli.committee_members import admit, join, members, policy, revoke
from raysafe.cli.committee_signing import KeyFile, Member, read_key, read_payload, sign
from raysafe.cli.output import print_json, print_table
from raysafe.control.capabilities import Capabilities
from raysafe.control.capability_guard import describe
from raysafe.control.people import person
from raysafe.errors import ConfigError
from raysafe.oversight.committee.committee import Committee
from raysafe.oversight.committee.policy import Stage
from raysafe.oversight.committee.queue import (
    ReviewState,
    close_review,
    payload_to_sign,
    review_queue,
    review_state,
    submit_signed,
)
from raysafe.oversight.committee.statements import Finding, Proposal
from raysafe.oversight.committee.tally import Choice
from raysafe.oversight.spans import seconds_of
from raysafe.records.signing import public_hex
from raysafe.records.store import open_store

Review = tyro.conf.Positional[str]
Reason = Annotated[str, tyro.conf.arg(help="Why; kept with it and in the audit log.")]
Payload = Annotated[
    bool, tyro.conf.arg(help="Print what is to be signed, and cast nothing: for a key on another machine.")
]
Signed = Annotated[
    str | None, tyro.conf.arg(help="Signature in hex, of the file given by --payload-file, in place of a key.")
]
PayloadFile = Annotated[str | None, tyro.conf.arg(help="What `--payload` printed, and was signed.")]
Span = Annotated[str | None, tyro.conf.arg(help="Such as 30d, 12h, 45m or 90s; the policy's by default.")]
Everything = Annotated[bool, tyro.conf.arg(name="all", help="What is closed or lapsed too.")]


def main(argv: list[str]) -> int:
    """Run one of the subcommands."""
    commands = {
        "members": members,
        "join": join,
        "admit": admit,
        "revoke": revoke,
        "policy": policy,
        "submit": submit,
        "queue": queue,
        "show": show,
        "assess": assess,
        "vote": vote,
        "sign": sign,
        "close": close,
        "appeal": appeal,
        "report": report,
    }
    return tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog="raysafe committee", description=__doc__)


def submit(
    model: tyro.conf.Positional[str],
    *,
    reason: Reason,
    by: By = None,
    guards: Annotated[
        str | None, tyro.conf.arg(help="Policy of guards it is to be served under; packaged one.")
    ] = None,
    stages: Annotated[tuple[Stage, ...], tyro.conf.arg(help="Stages beside those that the policy asks for.")] = (),
    deadline: Span = None,
    valid: Span = None,
    capabilities: Annotated[str | None, tyro.conf.arg(help="YAML file of what the approval grants; none.")] = None,
    accept_failed: Annotated[tuple[str, ...], tyro.conf.arg(help="Failed figures passed over, suite/metric.")] = (),
    condition: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(help="In words; repeatable.")] = (),
    monitored: Annotated[tuple[str, ...], tyro.conf.arg(help="Metrics that must be watched.")] = (),
    trained_by: Annotated[tuple[str, ...], tyro.conf.arg(help="Who made the model: they have no vote.")] = (),
    store: Store = None,
) -> int:
    """Submit a version for review; it is bound to its weights, its evidence and the guards' policy as they are now."""
    with open_store(store) as opened:
        committee = Committee(opened)
        standing = committee.book().policy
        longest = standing.valid_s if standing else 1.0
        proposal = Proposal(
            capabilities=Capabilities() if capabilities is None else Capabilities.load(capabilities),
            accept_failures=accept_failed,
            valid_s=longest if valid is None else seconds_of(valid, "valid"),
            conditions=tuple(condition),
            monitored=monitored,
        )
        review = committee.submit(
            model,
            by=person(by),
            reason=reason,
            proposal=proposal,
            guards=guards,
            trained_by=trained_by,
            stages=stages,
            deadline_s=None if deadline is None else seconds_of(deadline, "deadline"),
        )
    submission = review.submission
    print(f"{submission.bound.model} is under review as {review.id}, until {submission.deadline:%Y-%m-%d %H:%M} UTC")
    print(f"next: raysafe committee assess {review.id} --stage {submission.stages[0]} …" if submission.stages else "")
    return 0


def queue(*, everything: Everything = False, store: Store = None, as_json: AsJson = False) -> int:
    """Reviews under way, the nearest deadline first."""
    with open_store(store) as opened:
        found = review_queue(opened, everything=everything)
    if as_json:
        print_json([_facts(state) for state in found])
        return 0
    rows = [
        (s.id, s.model, s.state, f"{s.deadline:%Y-%m-%d %H:%M}", _stages(s), _votes(s), ", ".join(s.waits_for))
        for s in found
    ]
    print_table(("review", "model", "state", "deadline (UTC)", "stages in", "votes", "waits for"), rows)
    return 0


def show(review: Review, *, store: Store = None, as_json: AsJson = False) -> int:
    """A review: what it is bound to, what was assessed and voted, and what is missing."""
    with open_store(store) as opened:
        state = review_state(opened, review)
    if as_json:
        print_json(_facts(state))
        return 0
    _print_review(state)
    return 0


def assess(
    review: Review,
    *,
    stage: Stage,
    finding: Finding,
    reason: Reason,
    member: Member = None,
    key: KeyFile = None,
    payload: Payload = False,
    payload_file: PayloadFile = None,
    signature: Signed = None,
    store: Store = None,
) -> int:
    """Assess one stage of a review, signed by your key."""
    said = {"kind": "assessment", "stage": stage, "finding": finding, "reason": reason}
    return _cast(review, said, member, key, payload, payload_file, signature, store)


def vote(
    review: Review,
    choice: tyro.conf.Positional[Choice],
    *,
    reason: Reason,
    member: Member = None,
    key: KeyFile = None,
    payload: Payload = False,
    payload_file: PayloadFile = None,
    signature: Signed = None,
    store: Store = None,
) -> int:
    """Vote, signed by your key; until it is closed you may vote anew, and the newest counts."""
    said = {"kind": "vote", "choice": choice, "reason": reason}
    return _cast(review, said, member, key, payload, payload_file, signature, store)


def close(review: Review, *, by: By = None, store: Store = None) -> int:
    """End a vote that is decided, and put its decision in force."""
    with open_store(store) as opened:
        state = close_review(opened, review, by=person(by))
    tally = state.tally
    print(f"{state.model} {state.state}: {tally.approve} approve, {tally.reject} reject, {tally.abstain} abstain")
    if state.state == "approved":
        print(f"next: raysafe serve {state.model} --policy … ({state.guards_label}, and no other)")
    return 0


def appeal(review: Review, *, reason: Reason, by: By = None, store: Store = None) -> int:
    """Ask for another decision on a closed review; what is in force stays so until it is decided."""
    with open_store(store) as opened:
        opened_review = Committee(opened).appeal(review, by=person(by), reason=reason)
    print(f"the appeal against {review} is {opened_review.id}; until it is decided, nothing changes")
    return 0


def report(
    model: tyro.conf.Positional[str],
    *,
    out: Annotated[str, tyro.conf.arg(help="The HTML file to write.")],
    period: Annotated[str, tyro.conf.arg(help="Up to now, such as 30d or 12h.")] = "30d",
    store: Store = None,
) -> int:
    """Write a monitoring report on a model: metrics, compliance, incidents, recommendations; one page of HTML."""
    from raysafe.oversight.reports import committee_report

    with open_store(store) as opened:
        page = committee_report(opened, model, seconds_of(period, "period"))
    target = Path(out)
    try:
        target.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"out: can't write {target}: {error.strerror}") from None
    print(f"wrote {target}")
    return 0


def _cast(
    review: str,
    said: dict[str, str],
    member: str | None,
    key: str | None,
    payload: bool,
    payload_file: str | None,
    signature: str | None,
    store: str | None,
) -> int:
    if (signature is None) != (payload_file is None):
        raise ConfigError("a signature comes with the file that was signed: give --payload-file and --signature")
    with open_store(store) as opened:
        if signature is not None and payload_file is not None:
            state = submit_signed(opened, read_payload(payload_file), signature)
        else:
            known = None if payload and member else read_key(key)
            speaker = member or _holder(Committee(opened), public_hex(known) if known else "")
            text = payload_to_sign(opened, review, speaker, **said)  # type: ignore[arg-type]
            if payload:
                print(text)
                return 0
            assert known is not None
            state = submit_signed(opened, text, known.sign(text.encode()).hex())
    waits = f"; waits for {', '.join(state.waits_for)}" if state.state == "voting" and state.waits_for else ""
    print(f"{review} is {state.state}: stages in {_stages(state)}, votes {_votes(state)}{waits}")
    if not state.closable:
        print(f"next: raysafe committee close {review}")
    return 0


def _holder(committee: Committee, public_key: str) -> str:
    """The member whose key this is."""
    found = [m.id for m in committee.book().members.values() if m.public_key == public_key]
    if not found:
        raise ConfigError("no member has this key: give --key, or join first by `raysafe committee join`")
    return found[0]


def _stages(state: ReviewState) -> str:
    return f"{sum(s.done for s in state.stages)} of {len(state.stages)}"


def _votes(state: ReviewState) -> str:
    return f"{state.tally.voted} of {state.tally.eligible} (quorum {state.tally.quorum})"


def _facts(state: ReviewState) -> dict[str, object]:
    facts = state._asdict()
    return facts | {
        "tally": state.tally._asdict(),
        "votes": [said._asdict() for said in state.votes],
        "stages": [s._asdict() | {"assessments": [a._asdict() for a in s.assessments]} for s in state.stages],
        "proposal": state.proposal.model_dump(mode="json"),
        "bound": state.bound.model_dump(mode="json"),
    }


def _print_review(state: ReviewState) -> None:
    left = state.deadline - datetime.now(UTC)
    rows: list[tuple[str, object]] = [
        ("model", f"{state.model}  sha256 {state.digest[:12]}"),
        ("state", state.state),
        ("submitted by", f"{state.submitted_by}: {state.reason}"),
        ("deadline", f"{state.deadline:%Y-%m-%d %H:%M} UTC, {left.days} days from now"),
        ("guards", state.guards_label),
        ("holds for", f"{state.proposal.valid_s / 86400:g} days"),
        ("accepted failures", ", ".join(state.proposal.accept_failures) or "none"),
        ("conditions", "; ".join(state.proposal.conditions) or "none"),
        ("must be watched", ", ".join(state.proposal.monitored) or "nothing in particular"),
        ("appeal against", state.appeal_of),
        ("has changed", state.changed),
        ("no part in it", "; ".join(f"{name} {why}" for name, why in state.excluded.items())),
        ("votes", _votes(state)),
        ("to be closed", state.closable or "now"),
    ]
    print_table(("what", "value"), [row for row in rows if row[1]])
    print_table(("capability", "granted"), describe(state.proposal.capabilities), title="Capabilities")
    stages = [(s.stage, a.name, a.choice, a.reason) for s in state.stages for a in s.assessments] + [
        (s.stage, "", "open", "") for s in state.stages if not s.done
    ]
    print_table(("stage", "member", "finding", "reason"), stages, title="Assessments")
    votes = [(v.name, ", ".join(v.roles), v.choice, v.reason, f"{v.time:%Y-%m-%d %H:%M}") for v in state.votes]
    print_table(("member", "roles", "vote", "reason", "time"), votes, title="Votes")
