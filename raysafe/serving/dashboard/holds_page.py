"""What guards have held for a person: the queue, one of it with the texts, and the decision on it."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.responses import Response

from raysafe.control.held import Outcome
from raysafe.control.people import same_person
from raysafe.serving.dashboard.office import Visit


async def waiting(visit: Visit) -> Response:
    """The queue, oldest first."""
    holds = await visit.office.desk.pending(visit.key)
    for hold in holds:
        hold["since"], hold["until"] = (datetime.fromisoformat(hold[name]) for name in ("created", "expires"))
    return await visit.page("holds.html", "Held requests", holds=holds)


async def show(visit: Visit) -> Response:
    """One hold with its texts; that it was read is recorded before they leave. Raises ApiError."""
    desk, key = visit.office.desk, visit.key
    hold = await desk.show(key, visit.request.path_params["id"])
    await desk.note_reading(key, hold)
    own = same_person(hold.key_id, key.id)
    held = hold.held
    return await visit.page(
        "hold.html",
        "Held request",
        hold=hold,
        standing=hold.state(datetime.now(UTC)),
        texts=hold.texts(),
        held=held,
        own=own,
    )


async def decide(visit: Visit) -> Response:
    """Release or refuse, by the desk that the API uses."""
    outcome: Outcome = visit.form.one_of("outcome", "released", "refused")
    hold_id = visit.request.path_params["id"]
    await visit.office.desk.decide(visit.key, hold_id, outcome, visit.form.note())
    return visit.go("holds", outcome)
