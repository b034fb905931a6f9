"""The book of a committee against a model of it, over courses of acts that hypothesis makes up. No store, no log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raysafe.errors import ConfigError, NotApproved
from raysafe.oversight.committee.book import SIGNED, Book
from raysafe.oversight.committee.events import Event
from raysafe.oversight.committee.policy import CommitteePolicy, Quorum
from raysafe.oversight.committee.reviews import Submission
from raysafe.oversight.committee.statements import (
    Admission,
    AnyStatement,
    Assessment,
    Bound,
    PolicySetting,
    Proposal,
    Revocation,
    Vote,
    payload_of,
)
from raysafe.records.signing import public_hex
from tests.examples import examples

START = datetime(2026, 1, 1, tzinfo=UTC)
ROLES = {"a": ("chair",), "b": ("safety",), "c": ("technical",), "d": ("ethics",), "e": ("chair",)}
KEYS = {name: Ed25519PrivateKey.from_private_bytes(name.encode() * 32) for name in ROLES}
POLICY = CommitteePolicy(quorum=Quorum(members=3, share=0.5), stages=("technical",), voting_s=86400, deadline_s=864000)
PROPOSAL = Proposal(valid_s=86400)


class Committee(RuleBasedStateMachine):
    """The model knows votes, time and who has left, and counts by hand."""

    @initialize()
    def found(self) -> None:
        self.book, self.now, self.events = Book(), START, []
        for name, roles in ROLES.items():
            body = {"name": name, "roles": roles, "public_key": public_hex(KEYS[name]), "founding": "f"}
            self.happen("member requested", name, name, body)
            if name != "a":
                said = {"candidate": name, "name": name, "roles": roles, "public_key": public_hex(KEYS[name])}
                self.say(Admission(**self.head("a"), **said))
        self.say(PolicySetting(**self.head("a"), policy=POLICY))
        self.review, self.past, self.used = "", {}, []
        self.votes: dict[str, str] = {}
        self.gone: set[str] = set()
        self.assessed: set[str] = set()
        self.result, self.count = None, 0

    def happen(self, kind: Any, actor: str, subject: str, body: dict[str, Any]) -> None:
        event = Event(self.book.number + 1, kind, actor, subject, body, self.now)
        self.book.take(event)
        self.events.append(event)

    def head(self, name: str, subject: str = "f") -> dict[str, Any]:
        return {"committee": "f", "member": name, "sequence": self.book.next_sequence(name, subject)}

    def say(self, said: AnyStatement, signer: str | None = None) -> bool:
        """Whether it was taken."""
        signature = KEYS[signer or said.member].sign(payload_of(said).encode()).hex()
        body = {"statement": said.model_dump(mode="json"), "signature": signature}
        before = self.book.number
        try:
            self.happen(SIGNED[type(said)], said.member, said.member, body)
        except (NotApproved, ConfigError):
            assert self.book.number == before
            return False
        return True

    @property
    def open(self) -> bool:
        return bool(self.review) and self.result is None and self.now < self.deadline

    @precondition(lambda self: not self.open and not self.result)
    @rule()
    def submit(self) -> None:
        self.count += 1
        self.review, self.deadline = f"rv-{self.count}", self.now + timedelta(days=10)
        digest = "0" * 64
        digests: dict[str, Any] = {"weights": digest, "evidence": digest, "guards": digest, "policy": POLICY.digest}
        bound = Bound(nonce=f"{self.count:032x}", model="m:1", proposal=PROPOSAL.digest, **digests)
        submission = Submission(
            review=self.review,
            submitted_by="Sam",
            reason="r",
            bound=bound,
            proposal=PROPOSAL,
            guards_label="g",
            stages=("technical",),
            deadline=self.deadline,
            panel=tuple(self.book.active),
        )
        try:
            self.happen("review opened", "Sam", self.review, submission.model_dump(mode="json"))
        except NotApproved:
            self.review = ""
            return
        self.votes, self.assessed, self.bound = {}, set(), bound

    @rule(hours=st.sampled_from([1, 12, 48, 240]))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @precondition(lambda self: self.review)
    @rule(name=st.sampled_from("abcde"))
    def assess(self, name: str) -> None:
        said = {"review": self.review, "bound": self.bound, "stage": "technical", "finding": "adequate", "reason": "r"}
        taken = self.say(Assessment(**self.head(name, self.review), **said))
        assert taken == (self.open and name not in self.gone)
        if taken:
            self.assessed = {*self.assessed, name}

    @precondition(lambda self: self.review)
    @rule(name=st.sampled_from("abcde"), choice=st.sampled_from(["approve", "approve", "reject", "abstain"]))
    def vote(self, name: str, choice: Any) -> None:
        said = Vote(**self.head(name, self.review), review=self.review, bound=self.bound, choice=choice, reason="r")
        ready = self.open and name not in self.gone and bool(self.assessed and self.assessed - self.gone)
        assert self.say(said) == ready
        if ready:
            self.votes[name] = choice
            self.used.append(said)

    @precondition(lambda self: self.review)
    @rule(choices=st.lists(st.sampled_from(["approve", "approve", "reject", "abstain", ""]), min_size=5, max_size=5))
    def meet(self, choices: list[str]) -> None:
        """Many at once, or courses that end in a close would be rare."""
        self.assess("c")
        for name, choice in zip("abcde", choices, strict=True):
            if choice:
                self.vote(name, choice)
        self.close()

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        assert not self.say(data.draw(st.sampled_from(self.used)))

    @precondition(lambda self: self.review)
    @rule(name=st.sampled_from("abcde"), forger=st.sampled_from("abcde"))
    def forge(self, name: str, forger: str) -> None:
        head = self.head(name, self.review)
        if name != forger:
            assert not self.say(
                Vote(**head, review=self.review, bound=self.bound, choice="approve", reason="r"), forger
            )

    @rule(name=st.sampled_from("bcde"))
    def leave(self, name: str) -> None:
        if name not in self.gone and len(self.gone) < 2:
            assert self.say(Revocation(**self.head(name), revoked=name, reason="r"))
            self.gone.add(name)

    @precondition(lambda self: self.review)
    @rule()
    def close(self) -> None:
        """Taken for the one result that counting by hand gives, and at no other time."""
        taken = []
        for result in ("approved", "rejected"):
            try:
                self.happen("review closed", "Sam", self.review, {"result": result})
                taken.append(result)
            except NotApproved:
                continue
        assert taken == ([] if self.by_hand() is None else [self.by_hand()])
        if taken:
            self.result = taken[0]

    def by_hand(self) -> str | None:
        if not self.open or not self.assessed or not self.assessed - self.gone:
            return None
        left = [name for name in ROLES if name not in self.gone]
        votes = {name: choice for name, choice in self.votes.items() if name in left}
        if votes.get("b") == "reject":
            return "rejected"
        chair = "a" in votes or "e" in votes
        if len(votes) < max(3, (len(left) + 1) // 2) or not chair:
            return None
        yes, no = [[*votes.values()].count(choice) for choice in ("approve", "reject")]
        out = len(left) - len(votes)
        veto_is_out = "b" in left and "b" not in votes
        now = "approved" if yes > no else "rejected"
        fixed = (yes > no + out and not veto_is_out) if now == "approved" else yes + out <= no
        first = self.book.reviews[self.review].voting_since(self.book.active)
        assert first is not None
        return now if fixed or self.now >= first + timedelta(days=1) else None

    @invariant()
    def the_same_events_make_the_same_book(self) -> None:
        if len(self.events) % 7 == 0:
            assert Book.of(self.events) == self.book

    @invariant()
    def nothing_is_approved_past_its_deadline_or_without_a_vote(self) -> None:
        for review in self.book.reviews.values():
            if review.result == "approved":
                assert review.closed is not None and review.closed < review.submission.deadline
                assert review.votes


TestCommittee = Committee.TestCase
TestCommittee.settings = settings(max_examples=examples(600), stateful_step_count=40, deadline=None)
