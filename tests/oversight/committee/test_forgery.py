"""A vote counts once, where it was meant, by a key that is in force; and only what was voted is served."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import update

from raysafe.cli.main import main
from raysafe.errors import ConfigError, ModelError, NotApproved, RaySafeError, StorageError
from raysafe.guards.policy import load_policy
from raysafe.oversight.committee.binding import check_terms
from raysafe.oversight.committee.queue import review_state
from raysafe.oversight.committee.statements import Proposal
from raysafe.oversight.review import decide
from raysafe.oversight.safety_case import approved_case
from raysafe.records.audit import AuditLog
from raysafe.records.audit_chain import canonical
from raysafe.records.committee_table import CommitteeRow
from raysafe.records.registry import Registry
from raysafe.records.tables import DecisionRow, EvidenceRow
from tests.oversight.committee.house import POLICY, House
from tests.records.test_registry import make_run


@pytest.fixture
def review(house: House) -> str:
    """One that is to be voted on."""
    opened = house.submit().id
    house.assess(opened)
    return opened


def refused(house: House, review: str, payload: str, by: str, message: str) -> None:
    before = house.committee.book().number
    with pytest.raises(NotApproved, match=message):
        house.put(payload, by)
    assert house.committee.book().number == before


def test_a_vote_signed_by_another_key_is_refused(house: House, review: str) -> None:
    payload = house.payload(review, "Ada", choice="approve")
    refused(house, review, payload, "Bo", "the signature isn't that of Ada's key")


def test_a_vote_that_was_changed_after_it_was_signed_is_refused(house: House, review: str) -> None:
    payload = house.payload(review, "Ada", choice="reject")
    signature = house.keys["Ada"].sign(payload.encode()).hex()
    with pytest.raises(NotApproved, match="the signature isn't that of Ada's key"):
        house.committee.put_signed(payload.replace('"reject"', '"approve"'), signature)


def test_a_vote_that_is_replayed_is_refused(house: House, review: str) -> None:
    payload = house.payload(review, "Ada", choice="approve")
    house.put(payload, "Ada")
    house.vote(review, "Ada", "reject")
    refused(house, review, payload, "Ada", "it was replayed")
    assert review_state(house.store, review).tally.approve == 0


def test_a_vote_of_another_review_is_refused(house: House, review: str) -> None:
    old = json.loads(house.payload(review, "Ada", choice="approve"))
    house.late = timedelta(days=31)
    again = house.submit().id
    house.assess(again)
    refused(house, again, canonical(old).decode(), "Ada", "is lapsed")
    renamed = canonical({**old, "review": again}).decode()
    refused(house, again, renamed, "Ada", "about something else than what")


def test_a_vote_on_another_version_is_refused(house: House, review: str) -> None:
    said = json.loads(house.payload(review, "Ada", choice="approve"))
    said["bound"]["weights"] = "0" * 64
    refused(house, review, canonical(said).decode(), "Ada", "about something else than what")


def test_a_vote_by_a_revoked_member_is_refused_and_an_earlier_one_counts_no_more(house: House, review: str) -> None:
    house.vote(review, "Di")
    payload = house.payload(review, "Di", choice="approve")
    house.revoke("Di")
    refused(house, review, payload, "Di", "Di's membership is revoked")
    assert review_state(house.store, review).tally.approve == 0


def test_the_old_key_of_a_member_who_joined_again_is_refused(house: House, review: str) -> None:
    old_key, payload = house.keys["Di"], house.payload(review, "Di", choice="approve")
    house.revoke("Di")
    with pytest.raises(NotApproved, match="was used by a member before"):
        house.committee.join("Di", ("ethics",), old_key)
    house.join("Di", ("ethics",))
    with pytest.raises(NotApproved, match="Di's membership is revoked"):
        house.committee.put_signed(payload, old_key.sign(payload.encode()).hex())
    refused(house, review, house.payload(review, "Di", choice="approve"), "Di", "doesn't sit on the panel")


def test_who_has_only_asked_to_join_has_no_vote(house: House, review: str) -> None:
    key = Ed25519PrivateKey.generate()
    house.keys["Eve"], house.ids["Eve"] = key, house.committee.join("Eve", ("safety",), key).id
    refused(house, review, house.payload(review, "Eve", choice="approve"), "Eve", "Eve's membership is requested")


@pytest.mark.parametrize("field", ["submitted_by", "trained_by"])
def test_who_submitted_or_trained_a_model_has_no_vote(house: House, field: str) -> None:
    opened = house.submit(**({"by": "  bo "} if field == "submitted_by" else {"trained_by": ("BO",)})).id
    house.assess(opened)
    refused(house, opened, house.payload(opened, "Bo", choice="approve"), "Bo", "ed the model and has no part")


def test_nobody_votes_before_every_stage_is_in(house: House) -> None:
    opened = house.submit().id
    refused(house, opened, house.payload(opened, "Ada", choice="approve"), "Ada", "technical is missing")


def test_who_is_no_chair_admits_nobody_and_sets_no_policy(house: House) -> None:
    with pytest.raises(NotApproved, match="Bo is no chair"):
        house.join("Eve", ("safety",), by="Bo")
    with pytest.raises(NotApproved, match="Bo is no chair"):
        house.set_policy(POLICY, by="Bo")


def test_the_last_chair_cannot_leave(house: House) -> None:
    house.revoke("Ed")
    with pytest.raises(NotApproved, match="Ada is the only chair"):
        house.revoke("Ada")


def test_a_payload_that_is_spelled_otherwise_is_refused(house: House, review: str) -> None:
    payload = house.payload(review, "Ada", choice="approve")
    with pytest.raises(ConfigError, match="no statement"):
        house.put(payload.replace(":", ": ", 1), "Ada")


def test_a_vote_written_into_the_store_alone_is_found(house: House, review: str) -> None:
    house.vote(review, "Bo", "reject")
    with house.store.session() as session:
        row = session.query(CommitteeRow).filter(CommitteeRow.kind == "voted").one()
        said = {**row.body["statement"], "choice": "approve"}
        session.execute(update(CommitteeRow).where(CommitteeRow.number == row.number).values(body={"statement": said}))
    with pytest.raises(StorageError, match=r"and the audit log in .* doesn't"):
        review_state(house.store, review)


def test_an_approval_written_by_who_holds_store_and_log_but_no_keys_is_not_served(house: House, review: str) -> None:
    """The forger closes the review for the members, then writes the decision that would follow."""
    body = {"result": "approved"}
    number = house.committee.book().number + 1
    details = {"number": number, "time": house.committee.now().isoformat(), "body": body}
    with AuditLog(house.committee.folder, "committee", unique=True) as log:
        log.append("review closed", "Eve", review, details)
    with AuditLog(house.committee.folder, "review", unique=True) as log, pytest.raises(NotApproved, match="can't be"):
        decide(house.store, log, "tiny", "approved", reviewer="committee", reason="fine", review=review)
    assert main(["audit", "verify"]) == 1


def test_a_closed_review_decides_once(house: House) -> None:
    first = house.approve()
    second = house.submit()
    house.assess(second.id)
    house.vote(second.id, "Bo", "reject")
    for name in ("Ada", "Cy", "Di"):
        house.vote(second.id, name)
    house.committee.close(second.id, by="Ada")
    with AuditLog(house.committee.folder, "review", unique=True) as log:
        for used in (first.id, second.id):
            with pytest.raises(NotApproved, match="it decides once"):
                decide(house.store, log, "tiny", "approved", reviewer="committee", reason="again", review=used)
    with pytest.raises(NotApproved, match="was rejected by committee"):
        approved_case(house.store, "tiny")


def weights(house: House) -> None:
    (house.folder / "run" / "model" / "model.safetensors").write_text("other")


def evidence(house: House) -> None:
    with house.store.session() as session:
        row = session.query(EvidenceRow).one()
        row.body = {**row.body, "value": 0.0}


def evidence_file(house: House) -> None:
    (house.folder / "run" / "evidence.json").write_text("[ ]")


def guards(house: House) -> None:
    text = (house.folder / "guards.yaml").read_text()
    (house.folder / "guards.yaml").write_text(text.replace("20000", "20001"))


def guards_layout(house: House) -> None:
    """No change of what the policy says."""
    text = (house.folder / "guards.yaml").read_text()
    (house.folder / "guards.yaml").write_text("# reviewed\n" + text)


CHANGES = [weights, evidence, evidence_file, guards, guards_layout]


def serve(house: House) -> None:
    """As a service is planned."""
    case = approved_case(house.store, "tiny")
    Registry(house.store).check_files(case.version)
    assert case.decision
    check_terms(case.version.label, case.decision.terms, load_policy(str(house.folder / "guards.yaml")))


@pytest.fixture
def bound(house: House) -> str:
    """The options of a submission with files that can change."""
    (house.folder / "run" / "evidence.json").write_text("[]")
    (house.folder / "guards.yaml").write_text("name: ours\nguards:\n  - {kind: length, input_characters: 20000}\n")
    run = make_run(house.folder / "unrelated", weights="else")
    Registry(house.store).register(run, name="other")
    return str(house.folder / "guards.yaml")


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_invalidates_an_approval(house: House, bound: str, change: Callable[[House], None]) -> None:
    house.approve(guards=bound)
    serve(house)
    change(house)
    if change is guards_layout:
        serve(house)
        return
    with pytest.raises((NotApproved, ModelError)):
        serve(house)


@pytest.mark.parametrize("change", CHANGES[:-1])
def test_a_changed_file_keeps_a_vote_from_being_closed(
    house: House, bound: str, change: Callable[[House], None]
) -> None:
    opened = house.submit(guards=bound).id
    house.assess(opened)
    for name in ("Ada", "Bo", "Cy", "Di"):
        house.vote(opened, name)
    change(house)
    with pytest.raises((NotApproved, ModelError), match="chang"):
        house.committee.close(opened, by="Ada")
    with pytest.raises(RaySafeError):
        approved_case(house.store, "tiny")


def test_a_new_policy_of_the_committee_asks_for_a_new_review(house: House) -> None:
    house.approve()
    house.set_policy(POLICY.model_copy(update={"majority": "two_thirds"}))
    with pytest.raises(NotApproved, match="the committee's policy has changed since tiny:1 was approved"):
        approved_case(house.store, "tiny")
    house.approve()
    approved_case(house.store, "tiny")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"terms": {}}, "has another terms"),
        ({"capabilities": {"tools": ["shell"]}}, "has another capabilities"),
    ],
)
def test_terms_that_were_changed_in_the_store_are_refused(house: House, values: dict, message: str) -> None:
    house.approve(proposal=Proposal(valid_s=3600, conditions=("no tools",)))
    with house.store.session() as session:
        session.execute(update(DecisionRow).values(**values))
    with pytest.raises(NotApproved, match=message):
        approved_case(house.store, "tiny")


def test_an_approval_cannot_be_longer_than_the_policy_lets_it(house: House, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="180 days at the longest"):
        house.submit(proposal=Proposal(valid_s=181 * 86400))
    with pytest.raises(ConfigError, match="a review last 30 days"):
        house.submit(deadline_s=31 * 86400)
