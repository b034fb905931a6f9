"""Proposing, applying and reverting interventions: rows in the store, where every gateway looks, and in the audit log.

What is proposed does nothing until another person confirms it. Applying takes one person, or the monitor by its rules,
for every intervention lets less through; reverting takes another person than applied it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from secrets import token_hex

from sqlalchemy import select
from sqlalchemy.orm import Session

from raysafe.control.intervention import Intervention, InterventionOrder
from raysafe.control.intervention_log import APPLIED, BROKEN, CHAIN, REVERTED, InterventionLog, details_of, standing
from raysafe.control.kill_orders import kill, restore
from raysafe.control.people import same_person
from raysafe.control.revision import bump, read_revision
from raysafe.errors import ConfigError, NotApproved, StorageError
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.control_tables import KillRow
from raysafe.records.intervention_table import InterventionRow
from raysafe.records.store import Store, store_now

PROPOSED, DECLINED = "intervention proposed", "intervention declined"
Change = tuple[Intervention, int]
"""The intervention, and the number of the change, which gateways confirm (leases.await_seen)."""


def propose(
    store: Store, order: InterventionOrder, *, by: str, reason: str, alert: str | None = None, audit: Path | None = None
) -> Intervention:
    """Keep an intervention for another person to confirm or decline. Raises ConfigError without a name or reason."""
    _check(by, reason)
    with _log(store, audit) as log, store.session(alone=True) as session:
        row = _new(session, order, by, reason, alert)
        log.append(PROPOSED, by, order.target, details_of(_read(row)))
        return _read(row)


def apply(
    store: Store, order: InterventionOrder, *, by: str, reason: str, alert: str | None = None, audit: Path | None = None
) -> Change:
    """Put an intervention in force, now or when it starts; its audit row is durable before that.

    Raises ConfigError without a name or reason.
    """
    _check(by, reason)
    killed = _kill(store, order, by, reason, audit)
    with _log(store, audit) as log, store.session(alone=True) as session:
        return _put_in_force(session, log, _new(session, order, by, reason, alert), by, killed)


def confirm(store: Store, intervention_id: str, *, by: str, audit: Path | None = None) -> Change:
    """Put in force what another proposed. Raises ConfigError for what isn't proposed, NotApproved for one's own."""
    _check(by, "confirmed")
    with store.reading() as session:
        found = _read(_proposed(session, intervention_id, by))
    killed = (
        _kill(store, InterventionOrder(kind="kill", target=found.target), by, found.reason, audit)
        if (found.kind == "kill")
        else None
    )
    with _log(store, audit) as log, store.session(alone=True) as session:
        return _put_in_force(session, log, _proposed(session, intervention_id, by), by, killed)


def decline(store: Store, intervention_id: str, *, by: str, reason: str, audit: Path | None = None) -> Intervention:
    """Say no to what is proposed; also who proposed it may. Raises ConfigError for what isn't proposed."""
    _check(by, reason)
    with _log(store, audit) as log, store.session(alone=True) as session:
        row = _proposed(session, intervention_id)
        log.append(DECLINED, by, row.target, {"intervention": row.id, "reason": reason})
        row.state, row.ended_by, row.end_reason, row.ended = "declined", by, reason, store_now(session)
        return _read(row)


def revert(store: Store, intervention_id: str, *, by: str, reason: str, audit: Path | None = None) -> Change:
    """Lift an intervention, by another person than applied it. That of a kill restores its target.

    Raises NotApproved for one's own, ConfigError for what isn't in force or scheduled, StorageError where the audit
    log of interventions is broken or another one, for nothing can be lifted by it.
    """
    _check(by, reason)
    with store.reading() as session:
        row = session.get(InterventionRow, intervention_id)
        found = None if row is None else _with_kill(session, _read(row))
    if found is not None and found.kind == "kill":
        return _restore(store, found, by, reason, audit)
    with _log(store, audit) as log, store.session(alone=True) as session:
        known = InterventionLog(log.folder)
        now = store_now(session)
        found = _lifted(standing(_read_all(session), known), known, intervention_id, by, now)
        lifts = {"intervention": found.id, "reason": reason, "lifts": [found.audit_hash]}
        log.append(REVERTED, by, found.target, lifts)
        row = session.get(InterventionRow, intervention_id)
        if row is not None:
            row.state, row.ended_by, row.end_reason, row.ended = "reverted", by, reason, now
        ended = found._replace(state="reverted", ended_by=by, end_reason=reason, ended=now)
        return ended, bump(session)


def read_interventions(session: Session) -> list[Intervention]:
    """All that the store has, oldest first; a kill that was restored is reverted."""
    return [_with_kill(session, each) for each in _read_all(session)]


def list_interventions(
    store: Store, names: frozenset[str] | None = None, *, everything: bool = False, audit: Path | None = None
) -> list[tuple[Intervention, str]]:
    """Interventions and how each stands (Intervention.status), oldest first: those proposed, scheduled or in force.

    names: those that concern a gateway of these names; all by default. everything: what is over, declined and reverted
    too.
    """
    log = InterventionLog(audit or audit_folder(store.url))
    with store.reading() as session:
        now, stored = store_now(session), read_interventions(session)
    held = {each.id: each for each in standing(stored, log)}
    # the log has no times of proposing
    merged = [
        held.pop(each.id)._replace(proposed=each.proposed, duration_s=each.duration_s) if each.id in held else each
        for each in stored
    ]
    found = [(each, each.status(now)) for each in (*held.values(), *merged) if names is None or each.concerns(names)]
    return [(each, status) for each, status in found if everything or status in ("proposed", "scheduled", "in force")]


def _check(by: str, reason: str) -> None:
    if not by.strip() or not reason.strip():
        raise ConfigError("an intervention needs a name and a reason: give --by and --reason")
    if len(by) > 200:
        raise ConfigError("a name has at most 200 characters")


def _new(session: Session, order: InterventionOrder, by: str, reason: str, alert: str | None) -> InterventionRow:
    row = InterventionRow(
        id=f"iv-{token_hex(5)}",
        target=order.target,
        kind=order.kind,
        options=order.options(),
        reason=reason,
        alert=alert,
        state="proposed",
        proposed_by=by,
        proposed=store_now(session),
        starts=order.starts,
        duration_s=order.duration_s,
    )
    session.add(row)
    return row


def _put_in_force(session: Session, log: AuditLog, row: InterventionRow, by: str, killed: str | None) -> Change:
    now = store_now(session)
    starts = max(row.starts, now) if row.starts else now
    row.starts = starts
    row.until = starts + timedelta(seconds=row.duration_s) if row.duration_s else None
    row.applied_by, row.applied, row.state = by, now, "applied"
    if killed is None:
        row.audit_hash = log.append(APPLIED, by, row.target, details_of(_read(row))).hash
        return _read(row), bump(session)
    # its row is the kill order's, and gateways were told by that
    row.audit_hash = killed
    return _read(row), read_revision(session)


def _kill(store: Store, order: InterventionOrder, by: str, reason: str, audit: Path | None) -> str | None:
    return kill(store, order.target, by=by, reason=reason, audit=audit)[0].hash if order.kind == "kill" else None


def _restore(store: Store, found: Intervention, by: str, reason: str, audit: Path | None) -> Change:
    if found.state != "applied":
        raise ConfigError(f"'{found.id}' is {found.state}: there is nothing to revert")
    _, number = restore(store, found.target, by=by, reason=reason, audit=audit)
    with store.session() as session:
        row = session.get_one(InterventionRow, found.id)
        row.state, row.ended_by, row.end_reason, row.ended = "reverted", by, reason, store_now(session)
        return _read(row), number


def _proposed(session: Session, intervention_id: str, by: str | None = None) -> InterventionRow:
    row = session.get(InterventionRow, intervention_id)
    if row is None:
        raise ConfigError(f"no intervention is called '{intervention_id}': `raysafe interventions list` shows them")
    if row.state != "proposed":
        raise ConfigError(f"'{intervention_id}' is {row.state} already: only what is proposed is confirmed or declined")
    if by is not None and same_person(by, row.proposed_by):
        raise NotApproved(f"{by} proposed '{intervention_id}' and can't confirm it: a second person must")
    return row


def _lifted(
    found: list[Intervention], log: InterventionLog, intervention_id: str, by: str, now: datetime
) -> Intervention:
    """The one that may be lifted; raises where it may not."""
    if log.problems:
        raise StorageError(next(each.reason for each in found if each.id == BROKEN))
    each = next((each for each in found if each.id == intervention_id), None)
    if each is None or each.status(now) == "over":
        raise ConfigError(f"nothing to revert: no intervention '{intervention_id}' is in force or scheduled")
    if same_person(each.applied_by or "", by):
        raise NotApproved(f"{by} applied '{intervention_id}' and can't revert it: a second person must, with --by NAME")
    if each.audit_hash not in log.applied:
        raise StorageError(
            f"the audit log in {log.folder} knows nothing of '{intervention_id}': set RAYSAFE_AUDIT to the log that "
            "holds it"
        )
    return each


def _log(store: Store, audit: Path | None) -> AuditLog:
    return AuditLog(audit or audit_folder(store.url), writer=CHAIN, unique=True)


def _read_all(session: Session) -> list[Intervention]:
    return [_read(row) for row in session.scalars(select(InterventionRow).order_by(InterventionRow.proposed))]


def _with_kill(session: Session, each: Intervention) -> Intervention:
    """A kill's end is that of its order, whoever lifted it."""
    if each.kind != "kill" or each.state != "applied":
        return each
    order = session.scalar(select(KillRow).where(KillRow.audit_hash == each.audit_hash))
    if order is None or order.restored_by is None:
        return each
    return each._replace(
        state="reverted", ended_by=order.restored_by, end_reason=order.restore_reason, ended=order.restored
    )


def _read(row: InterventionRow) -> Intervention:
    return Intervention(**{name: getattr(row, name) for name in Intervention._fields if name != "note"})
