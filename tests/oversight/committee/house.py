"""A committee of five with a registered model, a clock that is moved by hand, and every key in one pocket."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.orm import Session

from raysafe.oversight.committee.book import Member
from raysafe.oversight.committee.committee import Committee
from raysafe.oversight.committee.policy import CommitteePolicy
from raysafe.oversight.committee.queue import payload_to_sign
from raysafe.oversight.committee.reviews import Review
from raysafe.oversight.committee.statements import Admission, PolicySetting, Revocation
from raysafe.records.registry import Registry
from raysafe.records.store import Store, store_now
from tests.oversight.helpers import add
from tests.records.test_registry import make_run

PEOPLE = {"Ada": ("chair",), "Bo": ("safety",), "Cy": ("technical",), "Di": ("ethics",), "Ed": ("chair", "technical")}
POLICY = CommitteePolicy(stages=("technical",), voting_s=3600)


@dataclass
class House:
    """All acts, by name."""

    store: Store
    folder: Path
    late: timedelta = timedelta()
    keys: dict[str, Ed25519PrivateKey] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def clock(self, session: Session) -> datetime:
        return store_now(session) + self.late

    @property
    def committee(self) -> Committee:
        return Committee(self.store, clock=self.clock)

    def found(self, policy: CommitteePolicy = POLICY, people: dict[str, tuple[str, ...]] = PEOPLE) -> None:
        for name, roles in people.items():
            self.join(name, roles)
        self.set_policy(policy)

    def register(self) -> None:
        version, _ = Registry(self.store).register(make_run(self.folder / "run"), name="tiny")
        add(self.store, version, 0.1)

    def join(self, name: str, roles: tuple[str, ...], by: str = "Ada") -> Member:
        key = Ed25519PrivateKey.generate()
        member = self.committee.join(name, roles, key)
        self.keys[name], self.ids[name] = key, member.id
        if member.state == "requested":
            self.admit(name, by)
        return member

    def head(self, by: str) -> dict[str, Any]:
        book, member = self.committee.book(), self.ids[by]
        assert book.founding
        return {"committee": book.founding, "member": member, "sequence": book.next_sequence(member, book.founding)}

    def admit(self, name: str, by: str) -> None:
        m = self.committee.book().members[self.ids[name]]
        said = {"candidate": m.id, "name": m.name, "roles": m.roles, "public_key": m.public_key}
        self.committee.sign(Admission(**self.head(by), **said), self.keys[by])

    def revoke(self, name: str, by: str = "Ada") -> None:
        self.committee.sign(Revocation(**self.head(by), revoked=self.ids[name], reason="left"), self.keys[by])

    def set_policy(self, policy: CommitteePolicy, by: str = "Ada") -> None:
        self.committee.sign(PolicySetting(**self.head(by), policy=policy), self.keys[by])

    def submit(self, **options: Any) -> Review:
        guards = self.folder / "small.yaml"
        if not guards.exists():
            guards.write_text("name: small\nguards:\n  - {kind: length, input_characters: 20000}\n")
        known = {"by": "Sam", "reason": "for release", "guards": str(guards)}
        return self.committee.submit("tiny:1", **{**known, **options})

    def payload(self, review: str, name: str, **said: Any) -> str:
        return payload_to_sign(self.store, review, self.ids[name], **{"reason": "as I see it", **said})

    def put(self, payload: str, by: str) -> None:
        self.committee.put_signed(payload, self.keys[by].sign(payload.encode()).hex())

    def assess(self, review: str, name: str = "Cy", stage: str = "technical", finding: str = "adequate") -> None:
        self.put(self.payload(review, name, kind="assessment", stage=stage, finding=finding), name)

    def vote(self, review: str, name: str, choice: str = "approve") -> None:
        self.put(self.payload(review, name, choice=choice), name)

    def approve(self, **options: Any) -> Review:
        """All the way to a decision."""
        review = self.submit(**options)
        self.assess(review.id)
        for name in ("Ada", "Bo", "Cy", "Di"):
            self.vote(review.id, name)
        return self.committee.close(review.id, by="Ada")
