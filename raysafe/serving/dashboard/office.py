"""What the dashboard's pages share: the store and the log, who is signed in, and how a page is made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from raysafe.control.holds import Holds
from raysafe.control.intervention_orders import read_interventions
from raysafe.control.keys import Key
from raysafe.errors import RaySafeError
from raysafe.monitoring.alerts import list_alerts
from raysafe.oversight.committee.queue import review_queue
from raysafe.records.store import Store
from raysafe.serving.dashboard.forms import Form
from raysafe.serving.dashboard.rendering import Theme, page, theme_of
from raysafe.serving.dashboard.sessions import Session, Sessions
from raysafe.serving.door import Plane
from raysafe.serving.holding import HoldDesk
from raysafe.serving.ledger import AuditWriter

logger = logging.getLogger(__name__)
PREFIX = "/dashboard"
DONE = {
    "acknowledged": "The alert is acknowledged.",
    "resolved": "The alert is resolved.",
    "silenced": "The silence is in force.",
    "unsilenced": "The silence is ended.",
    "released": "Released. The guards after the one that held it still judge.",
    "refused": "Refused. It stays closed for good.",
    "approved": "Approved. The model may be served where nothing below stands against it.",
    "rejected": "Rejected. These files are served under no name.",
    "voted": "Your word is in, and in the audit log.",
    "closed": "The vote is closed, and its decision recorded.",
    "proposed": "Proposed. It does nothing until a second person confirms it.",
    "applied": "The intervention is in force, or will be at its time.",
    "confirmed": "Confirmed. The intervention is in force, or will be at its time.",
    "declined": "Declined. The intervention does not happen.",
    "reverted": "Reverted.",
    "killed": "The kill order is in force. How far the gateways are is shown below.",
    "restored": "The kill orders are lifted. How far the gateways are is shown below.",
}
"""What a page says after a step that it was sent on from; an address can name these sentences and no others."""
T = TypeVar("T")


@dataclass(frozen=True)
class Office:
    """One gateway's dashboard, as its pages see it."""

    service: str
    store: Store
    audit_folder: Path
    audit: AuditWriter
    plane: Plane
    desk: HoldDesk
    policy: Callable[[], str]
    """The label of the policy in force."""

    @property
    def holds(self) -> Holds:
        return Holds(self.store, self.audit_folder)

    @property
    def sessions(self) -> Sessions:
        return Sessions(self.store)


@dataclass(frozen=True)
class Visit:
    """A request of somebody who is signed in."""

    office: Office
    request: Request
    session: Session
    form: Form
    """What was sent, or the address's query."""
    problem: str | None = None
    status: int = 200

    @property
    def key(self) -> Key:
        return self.session.key

    def again(self, problem: str, status: int) -> Visit:
        """The same page again, with what was wrong with what was sent."""
        return replace(self, problem=problem, status=status)

    async def page(self, template: str, title: str, **values: Any) -> Response:
        """A page of this visitor's, with what waits for them in its menu."""
        key = self.key
        shown: dict[str, Any] = {
            "service": self.office.service,
            "state": self.office.plane.state(),
            "key": key,
            "form_token": self.session.form_token,
            "form": self.form,
            "problem": self.problem,
            "done": DONE.get(self.request.query_params.get("done", "")) if self.problem is None else None,
            "waiting": await asyncio.to_thread(self._waiting),
            "here": self.request.url.path,
            "title": title,
        }
        return html(template, theme_of(self.request), self.status, **shown, **values)

    def go(self, path: str, done: str) -> Response:
        """Send the browser on, so that loading a page again repeats no step."""
        assert done in DONE
        return RedirectResponse(f"{PREFIX}/{path}?done={done}", 303)

    def _waiting(self) -> dict[str, int | None]:
        office, tenant = self.office, None if "operator" in self.key.scopes else self.key.tenant
        with office.store.reading() as session:
            proposed = sum(each.state == "proposed" for each in read_interventions(session))
        return {
            "alerts": sum(alert.state == "open" for alert in list_alerts(office.store)),
            "reviews": self._open_reviews(),
            "holds": office.holds.count_pending(office.service, tenant),
            "interventions": proposed,
        }

    def _open_reviews(self) -> int | None:
        """None where the committee's records can't be relied on: its own page says why, and the others go on."""
        try:
            return len(review_queue(self.office.store, audit=self.office.audit_folder))
        except RaySafeError as error:
            logger.error("the committee's reviews can't be read: %s", error)
            return None


Handler = Callable[[Visit], Awaitable[Response]]


class Page(NamedTuple):
    """One address: what shows it, and what happens when its form is sent."""

    path: str
    show: Handler
    act: Handler | None = None


def html(template: str, theme: Theme, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(page(template, theme=theme, **values), status)


async def in_thread(work: Callable[..., T], *given: Any, **named: Any) -> T:
    """What waits for the store or the disk holds up its own visitor alone."""
    return await asyncio.to_thread(work, *given, **named)
