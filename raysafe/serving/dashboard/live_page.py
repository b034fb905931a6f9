"""The first page: what passes through the service now and what its guards say; and all rows on one exchange."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from starlette.responses import Response

from raysafe.monitoring.figures import Figure, live_figures
from raysafe.records.audit_read import ChainRow, search
from raysafe.serving.dashboard.office import Office, Visit, in_thread
from raysafe.serving.dashboard.traffic import SEVERITY, may_read, passages, traffic_of
from raysafe.serving.wire.errors import ApiError

SHOWN, WINDOW_S = 40, 300.0
ROWS = 2000
"""Rows of the log that the figures of the last minutes rest on at most."""
STOPPED = ("modify", "hold", "block")


async def show(visit: Visit) -> Response:
    """The latest exchanges, newest first; with `only`, those of one outcome."""
    only = visit.request.query_params.get("only", "")
    only = only if only in SEVERITY else ""
    since = (datetime.now(UTC) - timedelta(seconds=WINDOW_S)).isoformat(timespec="microseconds")
    keep = traffic_of(visit.office.service, visit.key)
    found = await in_thread(search, visit.office.audit_folder, keep, most=ROWS, pattern="gateway-*")
    all_of_them = passages(found.rows)
    recent = [passage for passage in all_of_them if passage.time >= since]
    counts = Counter(passage.action for passage in recent)
    stopping = Counter(passage.guard for passage in recent if passage.action in STOPPED and passage.guard)
    shown = [passage for passage in all_of_them if only in ("", passage.action)]
    return await visit.page(
        "live.html",
        "Live traffic",
        passages=shown[:SHOWN],
        only=only,
        counts=[(action, counts[action]) for action in SEVERITY],
        total=len(recent),
        partly=found.older is not None and found.older >= since,
        stopping=stopping.most_common(5),
        window_s=WINDOW_S,
        policy=visit.office.policy(),
        figures=await in_thread(_figures, visit.office),
    )


async def exchange(visit: Visit) -> Response:
    """All rows of one exchange; raises ApiError 404 where there are none that this visitor may see."""
    subject = visit.request.path_params["id"]

    def mine(found: ChainRow) -> bool:
        return found.row["subject"] == subject and may_read(visit.key, found)

    found = await in_thread(search, visit.office.audit_folder, mine, most=200)
    if not found.rows:
        raise ApiError(404, "the newest rows of the audit log hold nothing on this exchange", code="not_found")
    rows = found.rows[::-1]
    kept = await in_thread(visit.office.holds.get, subject)
    mine_to_read = kept is not None and kept.service == visit.office.service and visit.key.reviews(kept.tenant)
    held = kept.state(datetime.now(UTC)) if kept is not None and mine_to_read else None
    known = passages(found.rows)
    return await visit.page(
        "exchange.html", "Exchange", id=subject, rows=rows, held=held, passage=known[0] if known else None
    )


def _figures(office: Office) -> dict[str, list[Figure]]:
    """What all gateways of the service observed in the last minute, by family."""
    found: dict[str, list[Figure]] = {}
    for figure in live_figures(office.store, office.service):
        found.setdefault(figure.family, []).append(figure)
    return found
