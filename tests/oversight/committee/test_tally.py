"""The tally against an oracle that enumerates: every way in which the rest could vote."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.oversight.committee.policy import CommitteePolicy, Quorum
from raysafe.oversight.committee.tally import Seat, count

ROLES = ("chair", "safety", "ethics", "technical")


def policies() -> st.SearchStrategy[CommitteePolicy]:
    roles = st.lists(st.sampled_from(ROLES), unique=True, max_size=2).map(tuple)
    return st.builds(
        CommitteePolicy,
        quorum=st.builds(Quorum, members=st.integers(1, 5), share=st.sampled_from([0, 0.1, 0.3, 0.5, 0.6, 0.7, 1])),
        majority=st.sampled_from(["simple", "two_thirds", "three_quarters", "unanimous"]),
        veto=roles,
        must_vote=roles,
    )


def seats(most: int = 6) -> st.SearchStrategy[list[Seat]]:
    choice: st.SearchStrategy[Any] = st.sampled_from(["approve", "reject", "abstain", None])
    held = st.frozensets(st.sampled_from(ROLES), min_size=1, max_size=2)
    rows = st.lists(st.tuples(held, choice), min_size=1, max_size=most)
    return rows.map(lambda rows: [Seat(f"m{i}", roles, choice) for i, (roles, choice) in enumerate(rows)])


def oracle(policy: CommitteePolicy, panel: list[tuple[frozenset[str], Any]]) -> str | None:
    """The rules in whole numbers, as a person would count by hand."""
    yes = sum(choice == "approve" for _, choice in panel)
    no = sum(choice == "reject" for _, choice in panel)
    present = [roles for roles, choice in panel if choice is not None]
    if any(choice == "reject" and role in policy.veto for roles, choice in panel for role in roles):
        return "rejected"
    # shares here have one decimal: tenths
    if len(present) < policy.quorum.members or 10 * len(present) < round(10 * policy.quorum.share) * len(panel):
        return None
    if any(all(role not in roles for roles in present) for role in policy.must_vote):
        return None
    enough = {"simple": yes > no, "two_thirds": yes >= 2 * no, "three_quarters": yes >= 3 * no, "unanimous": no == 0}
    return "approved" if yes > 0 and enough[policy.majority] else "rejected"


@given(policies(), seats())
def test_the_outcome_is_what_counting_by_hand_gives(policy: CommitteePolicy, panel: list[Seat]) -> None:
    assert count(policy, panel).outcome == oracle(policy, [(s.roles, s.choice) for s in panel])


@given(policies(), seats(most=5))
def test_a_vote_is_settled_where_every_way_to_vote_on_ends_alike(policy: CommitteePolicy, panel: list[Seat]) -> None:
    out = [number for number, seat in enumerate(panel) if seat.choice is None]
    ends = set()
    for rest in product(["approve", "reject", "abstain", None], repeat=len(out)):
        filled = dict(zip(out, rest, strict=True))
        ends.add(oracle(policy, [(s.roles, s.choice or filled.get(i)) for i, s in enumerate(panel)]))
    assert count(policy, panel).settled == (len(ends) == 1 and None not in ends)


@given(policies(), seats(), st.integers(0, 5))
def test_an_approval_more_never_makes_a_rejection_of_an_approval(
    policy: CommitteePolicy, panel: list[Seat], place: int
) -> None:
    turned = [seat._replace(choice="approve") if i == place else seat for i, seat in enumerate(panel)]
    if count(policy, panel).outcome == "approved":
        assert count(policy, turned).outcome == "approved"


@given(policies(), seats())
def test_a_veto_rejects_whatever_the_others_say(policy: CommitteePolicy, panel: list[Seat]) -> None:
    for role in policy.veto:
        assert count(policy, [*panel, Seat("v", frozenset({role}), "reject")]).outcome == "rejected"


@given(policies(), seats(), st.randoms())
def test_the_order_of_votes_decides_nothing(policy: CommitteePolicy, panel: list[Seat], random) -> None:  # type: ignore[no-untyped-def]
    mixed = random.sample(panel, len(panel))
    assert count(policy, mixed)._replace(vetoes=()) == count(policy, panel)._replace(vetoes=())


@pytest.mark.parametrize(
    ("majority", "approve", "reject", "outcome"),
    [
        ("simple", 2, 2, "rejected"),
        ("simple", 3, 2, "approved"),
        ("two_thirds", 4, 2, "approved"),
        ("two_thirds", 3, 2, "rejected"),
        ("three_quarters", 3, 1, "approved"),
        ("three_quarters", 5, 2, "rejected"),
        ("unanimous", 5, 0, "approved"),
        ("unanimous", 5, 1, "rejected"),
        ("simple", 0, 0, "rejected"),
    ],
)
def test_majorities_worked_by_hand(majority: Any, approve: int, reject: int, outcome: str) -> None:
    policy = CommitteePolicy(majority=majority, veto=(), must_vote=(), quorum=Quorum(members=1, share=0))
    votes = ["approve"] * approve + ["reject"] * reject + ["abstain"]
    assert count(policy, [Seat(str(i), frozenset(), choice) for i, choice in enumerate(votes)]).outcome == outcome  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("share", "eligible", "needed"), [(0.5, 5, 3), (0.6, 5, 3), (0.7, 10, 7), (0.1, 30, 3), (1, 4, 4)]
)
def test_a_quorum_by_share_is_rounded_up_exactly(share: float, eligible: int, needed: int) -> None:
    assert Quorum(members=1, share=share).of(eligible) == needed
