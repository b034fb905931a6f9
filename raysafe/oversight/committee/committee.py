"""What a committee does: each act goes through the rules, into the audit log, and then into the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.orm import Session

from raysafe.errors import ConfigError, NotApproved
from raysafe.guards.policy import load_policy
from raysafe.oversight.committee.binding import evidence_files, why_changed
from raysafe.oversight.committee.book import SIGNED, Book, Member
from raysafe.oversight.committee.events import CHAIN, Event, Kind, check_store, keep, logged_events, stored_events
from raysafe.oversight.committee.policy import Stage
from raysafe.oversight.committee.reviews import Review, Submission
from raysafe.oversight.committee.statements import (
    AnyStatement,
    Bound,
    OnReview,
    Proposal,
    payload_of,
    read_statement,
)
from raysafe.oversight.decisions import CHAIN as DECISIONS
from raysafe.oversight.review import decide
from raysafe.oversight.safety_case import check_failures, load_case
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.evidence import evidence_digest
from raysafe.records.registry import Registry
from raysafe.records.signing import public_hex
from raysafe.records.store import Store, store_now

Act = Callable[[Book, datetime], tuple[str, str, dict[str, Any]]]
"""From the state and the time: who acts, on what, and what the event says."""


class Committee:
    """The committee of one store."""

    def __init__(
        self, store: Store, audit: Path | None = None, clock: Callable[[Session], datetime] = store_now
    ) -> None:
        """clock: the store's, by default; deadlines are held to it."""
        self.store, self.folder, self._clock = store, audit or audit_folder(store.url), clock

    def book(self) -> Book:
        """The state; raises StorageError or NotApproved where log or store were tampered with."""
        with self.store.reading() as session:
            # the log second: what the store holds was in the log before
            stored = stored_events(session)
        logged = logged_events(self.folder)
        check_store(stored, logged, self.folder)
        return Book.of(logged)

    def now(self) -> datetime:
        with self.store.reading() as session:
            return self._clock(session)

    def join(self, name: str, roles: Sequence[str], key: Ed25519PrivateKey) -> Member:
        """Ask to be a member; the first one founds the committee and is its chair."""
        member = f"cm-{token_hex(4)}"
        body = {"name": name.strip(), "roles": list(roles), "public_key": public_hex(key), "founding": token_hex(16)}
        if len(name) > 100:
            raise ConfigError(f"a member's name has at most 100 characters, got {len(name)}")
        return self._record("member requested", lambda book, now: (name.strip(), member, body)).members[member]

    def sign(self, statement: AnyStatement, key: Ed25519PrivateKey) -> Book:
        """Sign a statement and put it in."""
        payload = payload_of(statement)
        return self.put_signed(payload, key.sign(payload.encode()).hex())

    def put_signed(self, payload: str, signature: str) -> Book:
        """Put a signed statement in: a vote, an assessment, or what a chair says.

        Raises ConfigError for what is no statement, NotApproved for one that is forged, replayed, about something else
        or by somebody who may not; a vote also where the case has changed since it was submitted.
        """
        said = read_statement(payload)
        kind = SIGNED[type(said)]
        body = {"statement": said.model_dump(mode="json"), "signature": signature}
        if isinstance(said, OnReview):
            self._check_unchanged(self.book().review(said.review))
        subject = said.review if isinstance(said, OnReview) else said.member
        return self._record(kind, lambda book, now: (said.member, subject, body))

    def submit(
        self,
        reference: str,
        *,
        by: str,
        reason: str,
        proposal: Proposal | None = None,
        guards: str | None = None,
        trained_by: Sequence[str] = (),
        stages: Sequence[Stage] = (),
        deadline_s: float | None = None,
        appeal_of: str | None = None,
    ) -> Review:
        """Submit a version for review, bound to its files, its evidence, and the policy of guards in the file `guards`.

        Raises NotApproved where failed figures aren't accepted by the proposal, ModelError where files have changed.
        """
        if not by.strip() or not reason.strip():
            raise ConfigError("a submission needs a name and a reason: give --by and --reason")
        registry = Registry(self.store)
        version = registry.get_exact(reference)
        registry.check_files(version)
        case = load_case(self.store, version.label)
        review, nonce, policy = f"rv-{token_hex(4)}", token_hex(16), load_policy(guards)
        files = evidence_files(version, case.evidence)
        guards_file = None if guards is None else str(Path(guards).absolute())

        def opened(book: Book, now: datetime) -> tuple[str, str, dict[str, Any]]:
            standing = book.policy
            if standing is None:
                raise ConfigError("no policy of the committee stands: a chair sets one by `raysafe committee policy`")
            proposed = proposal or Proposal(valid_s=standing.valid_s)
            check_failures(case, "approved", proposed.accept_failures)
            submission = Submission(
                review=review,
                submitted_by=by.strip(),
                reason=reason,
                trained_by=tuple(trained_by),
                proposal=proposed,
                guards_file=guards_file,
                guards_label=policy.label,
                stages=tuple(dict.fromkeys((*standing.stages, *stages))),
                deadline=now + timedelta(seconds=standing.deadline_s if deadline_s is None else deadline_s),
                panel=book.panel(appeal_of),
                appeal_of=appeal_of,
                bound=Bound(
                    nonce=nonce,
                    model=version.label,
                    weights=version.digest,
                    evidence=evidence_digest(case.evidence),
                    guards=policy.digest,
                    files=files,
                    policy=standing.digest,
                    proposal=proposed.digest,
                ),
            )
            return by.strip(), review, submission.model_dump(mode="json")

        return self._record("review opened", opened).reviews[review]

    def appeal(self, review_id: str, *, by: str, reason: str) -> Review:
        """Ask for another decision, by a panel as the policy says. What is in force stays so until it is decided."""
        first = self.book().review(review_id).submission
        return self.submit(
            first.bound.model,
            by=by,
            reason=reason,
            proposal=first.proposal,
            guards=first.guards_file,
            trained_by=(*first.trained_by, *_other(first.submitted_by, by)),
            stages=first.stages,
            appeal_of=review_id,
        )

    def close(self, review_id: str, *, by: str) -> Review:
        """End a vote that is decided, and record its decision. A crash between the two is mended by closing again.

        Raises NotApproved where it can't be closed yet or any more, or where the case has changed since.
        """
        review = self.book().review(review_id)
        if review.result is None:
            self._check_unchanged(review, weights=True)

            def closed(book: Book, now: datetime) -> tuple[str, str, dict[str, Any]]:
                found, why = book.review(review_id).decidable(max(now, book.time), book.active)
                if found is None:
                    raise NotApproved(f"{review_id} can't be closed: {why}")
                return by, review_id, {"result": found}

            review = self._record("review closed", closed).review(review_id)
        assert review.result is not None
        tally = review.tally(self.book().active)
        said = (
            f"{tally.approve} approved, {tally.reject} rejected, {tally.abstain} abstained: {review.submission.reason}"
        )
        with AuditLog(self.folder, writer=DECISIONS, unique=True) as audit:
            name = f"committee ({review.policy.name})"
            decide(
                self.store,
                audit,
                review.submission.bound.model,
                review.result,
                reviewer=name,
                reason=said,
                review=review_id,
            )
        return review

    def why_changed(self, review: Review) -> str | None:
        """What isn't any more as it was submitted, the weights aside; None where all is."""
        return why_changed(review.submission, load_case(self.store, review.submission.bound.model))

    def _check_unchanged(self, review: Review, *, weights: bool = False) -> None:
        case = load_case(self.store, review.submission.bound.model)
        changed = why_changed(review.submission, case)
        if changed is not None:
            raise NotApproved(f"{changed} since {review.id} was opened: submit it again")
        if weights:
            Registry(self.store).check_files(case.version)

    def _record(self, kind: Kind, act: Act) -> Book:
        with AuditLog(self.folder, writer=CHAIN, unique=True) as log, self.store.session(alone=True) as session:
            # the store first: SQLite lets this one be alone from the first statement on
            stored, logged = stored_events(session), logged_events(self.folder)
            # durable in the log and lost to the store, by a crash or a deletion: they count
            keep(session, check_store(stored, logged, self.folder))
            book = Book.of(logged)
            now = max(self._clock(session), book.time)
            actor, subject, body = act(book, now)
            event = Event(book.number + 1, kind, actor, subject, body, now)
            book.take(event)
            row = log.append(kind, actor, subject, event.details())
            keep(session, [event._replace(hash=row.hash)])
            return book


def _other(one: str, two: str) -> tuple[str, ...]:
    return () if one == two else (one,)
