"""The audit log: the newest rows by kind, subject and time, and a check of every chain."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.responses import Response

from raysafe.errors import ConfigError, NotApproved
from raysafe.records.audit_read import ChainRow, search, wanted
from raysafe.records.audit_verify import ChainReport
from raysafe.records.audit_verify import verify as verify_folder
from raysafe.serving.dashboard.office import Visit, in_thread
from raysafe.serving.dashboard.traffic import may_read

SHOWN = 50
KINDS = (
    "verdict",
    "release",
    "read",
    "released",
    "refused",
    "killed",
    "restored",
    "approved",
    "rejected",
    "alert acknowledged",
    "alert resolved",
    "intervention applied",
    "intervention reverted",
    "policy",
    "key made",
    "key rotated",
    "key revoked",
    "signed in",
    "signed out",
    "sign-in refused",
)
"""Offered to choose from; any other may be typed."""


async def show(visit: Visit) -> Response:
    return await _page(visit, None)


async def verify(visit: Visit) -> Response:
    """Check every chain against its links and its anchors."""
    if "operator" not in visit.key.scopes:
        raise NotApproved("checking the whole log takes a key of the scope operator")
    return await _page(visit, await in_thread(verify_folder, visit.office.audit_folder))


async def _page(visit: Visit, reports: list[ChainReport] | None) -> Response:
    form, problem, status = visit.form, visit.problem, visit.status
    kind, subject = form.get("kind").strip(), form.get("subject").strip()
    since = before = ""
    try:
        since, before = _time(form.get("since")), _time(form.get("before"))
    except ConfigError as error:
        problem, status = str(error), 400
    fits = wanted(kind, subject)

    def keep(found: ChainRow) -> bool:
        return fits(found) and may_read(visit.key, found)

    found = await in_thread(search, visit.office.audit_folder, keep, most=SHOWN, since=since, before=before)
    shown = visit if problem is None else visit.again(problem, status)
    return await shown.page(
        "audit.html",
        "Audit log",
        found=found,
        kinds=KINDS,
        kind=kind,
        subject=subject,
        since=form.get("since"),
        before=form.get("before"),
        reports=reports,
        may_verify="operator" in visit.key.scopes,
    )


def _time(text: str) -> str:
    """A moment in UTC as rows bear it, from '2026-11-26 09:30' and the like; raises ConfigError."""
    if not text.strip():
        return ""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(f"'{text[:40]}' is no time: write it as 2026-11-26 09:30, in UTC") from None
    return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC).isoformat(timespec="microseconds")
