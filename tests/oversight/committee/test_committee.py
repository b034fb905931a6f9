"""From a submission to what is served, on both kinds of store."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete

from raysafe.cli.main import main
from raysafe.errors import ConfigError, NotApproved
from raysafe.oversight.committee.queue import review_queue, review_state
from raysafe.oversight.safety_case import approved_case, load_case
from raysafe.records.committee_table import CommitteeRow
from raysafe.records.store import Store, open_store
from tests.oversight.committee.house import POLICY, House


def test_a_closed_vote_lets_the_version_be_served(both: House) -> None:
    review = both.submit()
    both.assess(review.id)
    with pytest.raises(NotApproved, match="has not been reviewed"):
        approved_case(both.store, "tiny")
    for name in ("Ada", "Bo", "Cy", "Di"):
        both.vote(review.id, name)
    both.committee.close(review.id, by="Ada")
    decision = approved_case(both.store, "tiny").decision
    assert decision is not None and decision.terms.review == review.id


def test_votes_that_are_cast_at_once_all_count_once(both: House) -> None:
    review = both.submit()
    both.assess(review.id)
    names = ["Ada", "Bo", "Cy", "Di", "Ed"]
    payloads = [both.payload(review.id, name, choice="approve") for name in names for _ in range(2)]
    start, refused = threading.Barrier(len(payloads)), []

    def cast(number: int) -> None:
        start.wait()
        try:
            with open_store(str(both.store.engine.url.render_as_string(hide_password=False))) as store:
                House(store, both.folder, keys=both.keys, ids=both.ids).put(payloads[number], names[number // 2])
        except NotApproved as error:
            refused.append(str(error))

    with ThreadPoolExecutor(len(payloads)) as pool:
        list(pool.map(cast, range(len(payloads))))
    state = review_state(both.store, review.id)
    assert state.tally.approve == 5
    assert len(refused) == 5 and all("replayed" in reason for reason in refused)
    events = [row.number for row in _rows(both)]
    assert events == list(range(1, len(events) + 1))


def test_a_vote_that_is_closed_twice_at_once_decides_once(both: House) -> None:
    review = both.submit()
    both.assess(review.id)
    for name in ("Ada", "Bo", "Cy", "Di", "Ed"):
        both.vote(review.id, name)

    def close(number: int) -> bool:
        try:
            both.committee.close(review.id, by=f"clerk {number}")
        except NotApproved:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        closed = list(pool.map(close, range(4)))
    assert sum(closed) >= 1
    assert [d.terms.review for d in load_case(both.store, "tiny").history] == [review.id]


def test_past_the_deadline_a_review_lapses_and_nothing_is_approved(both: House) -> None:
    review = both.submit()
    both.assess(review.id)
    for name in ("Ada", "Bo", "Cy", "Di", "Ed"):
        both.vote(review.id, name)
    both.late = timedelta(days=30)
    with pytest.raises(NotApproved, match="it lapsed at its deadline"):
        both.committee.close(review.id, by="Ada")
    with pytest.raises(NotApproved, match="is lapsed"):
        both.vote(review.id, "Ada")
    assert both.committee.book().reviews[review.id].state(both.committee.now(), {}) == "lapsed"
    with pytest.raises(NotApproved, match="has not been reviewed"):
        approved_case(both.store, "tiny")


@pytest.mark.parametrize(("days", "served"), [(179, True), (181, False)])
def test_an_approval_ends_when_it_expires(either: Store, tmp_path: Path, days: float, served: bool) -> None:
    house = House(either, tmp_path, late=-timedelta(days=days))
    house.register()
    house.found()
    house.approve()
    if served:
        approved_case(either, "tiny")
        return
    with pytest.raises(NotApproved, match="the approval of tiny:1 expired at"):
        approved_case(either, "tiny")


def test_an_appeal_changes_nothing_until_it_is_decided(both: House) -> None:
    first = both.approve()
    appeal = both.committee.appeal(first.id, by="Bo", reason="a jailbreak was found")
    approved_case(both.store, "tiny")
    assert both.ids["Ada"] not in appeal.submission.panel, "the old chair has no seat"
    both.assess(appeal.id)
    with pytest.raises(NotApproved, match="Ada doesn't sit on the panel"):
        both.vote(appeal.id, "Ada")
    approved_case(both.store, "tiny")
    for name in ("Cy", "Di", "Ed"):
        both.vote(appeal.id, name, "reject")
    approved_case(both.store, "tiny")
    both.committee.close(appeal.id, by="Ed")
    with pytest.raises(NotApproved, match="tiny:1 was rejected by committee"):
        approved_case(both.store, "tiny")


def test_events_that_the_store_lost_come_back_from_the_log(both: House) -> None:
    review = both.submit()
    both.assess(review.id)
    both.vote(review.id, "Bo", "reject")
    with both.store.session() as session:
        session.execute(delete(CommitteeRow).where(CommitteeRow.kind == "voted"))
    assert review_state(both.store, review.id).tally.vetoes == (both.ids["Bo"],)
    both.vote(review.id, "Ada")
    assert [row.kind for row in _rows(both)][-2:] == ["voted", "voted"]


def test_the_queue_shows_the_nearest_deadline_and_who_is_waited_for(both: House) -> None:
    review = both.submit()
    both.assess(review.id)
    both.vote(review.id, "Ada")
    (state,) = review_queue(both.store)
    assert state.state == "voting" and state.waits_for == ("Bo", "Cy", "Di", "Ed")
    assert "votes are in" in state.closable


def test_the_log_confirms_what_the_committee_decided(house: House) -> None:
    house.approve()
    assert main(["audit", "verify"]) == 0


@pytest.mark.parametrize("outcome", ["approve", "reject"])
def test_nobody_decides_alone_where_a_committee_stands(house: House, outcome: str) -> None:
    assert main(["review", outcome, "tiny", "--reason", "fine", "--reviewer", "Ada"]) == 2
    assert load_case(house.store, "tiny").history == ()


def test_a_single_reviewer_decides_where_the_policy_says_so(house: House) -> None:
    house.set_policy(POLICY.model_copy(update={"committee": "none"}))
    assert main(["review", "approve", "tiny", "--reason", "fine", "--reviewer", "Ada"]) == 0
    approved_case(house.store, "tiny")


def test_an_approval_by_one_person_ends_where_a_committee_comes_to_stand(house: House) -> None:
    house.set_policy(POLICY.model_copy(update={"committee": "none"}))
    assert main(["review", "approve", "tiny", "--reason", "fine", "--reviewer", "Ada"]) == 0
    house.set_policy(POLICY)
    with pytest.raises(NotApproved, match="was approved by Ada alone, and a committee decides here"):
        approved_case(house.store, "tiny")


def test_failed_figures_must_be_accepted_in_the_proposal(house: House) -> None:
    from raysafe.records.registry import Registry
    from tests.oversight.helpers import add

    add(house.store, Registry(house.store).get("tiny"), 0.9, data_digest="other")
    with pytest.raises(NotApproved, match="unsafe_rate failed"):
        house.submit()


def test_what_is_under_review_is_not_submitted_twice(house: House) -> None:
    review = house.submit()
    with pytest.raises(ConfigError, match=f"is under review already, as {review.id}"):
        house.submit()


def _rows(house: House) -> list[CommitteeRow]:
    with house.store.reading() as session:
        return session.query(CommitteeRow).order_by(CommitteeRow.number).all()
