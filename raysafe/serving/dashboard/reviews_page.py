"""The committee's reviews: the queue, one of them with its stages and votes, and a member's signed word on it.

A member's key never comes here. The page says what is to be signed, and takes the signature, which the browser makes
from the member's key file where it can, and `raysafe committee sign` anywhere.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from raysafe.errors import NotApproved
from raysafe.oversight.committee.queue import (
    close_review,
    members,
    payload_to_sign,
    review_queue,
    review_state,
    submit_signed,
)
from raysafe.serving.dashboard.forms import Form
from raysafe.serving.dashboard.office import Visit, in_thread

CHOICES = ("approve", "reject", "abstain")
FINDINGS = ("adequate", "inadequate")
OPEN = ("assessing", "voting")


async def every(visit: Visit) -> Response:
    """Open reviews, the nearest deadline first; with `all`, the others after them."""
    office, everything = visit.office, bool(visit.request.query_params.get("all"))
    found = await in_thread(review_queue, office.store, everything=everything, audit=office.audit_folder)
    return await visit.page("reviews.html", "Reviews", reviews=found, everything=everything, still=OPEN)


async def show(visit: Visit) -> Response:
    """One review; raises ConfigError for an unknown one."""
    return await _page(visit, visit.form.get("payload"))


async def act(visit: Visit) -> Response:
    """Write down what a member would sign, take what one has signed, or close a vote; raises as the committee does."""
    office, form, review = visit.office, visit.form, visit.request.path_params["id"]
    step, audit = form.one_of("do", "prepare", "submit", "close"), office.audit_folder
    if step == "prepare":
        said = _said(form)
        return await _page(visit, await in_thread(payload_to_sign, office.store, review, audit=audit, **said))
    if step == "submit":
        await in_thread(submit_signed, office.store, form.get("payload"), form.get("signature"), audit=audit)
        return visit.go(f"reviews/{review}", "voted")
    if not visit.key.reviews_all:
        raise NotApproved("a vote is about what every tenant is served: the house's own people close it")
    await in_thread(close_review, office.store, review, by=visit.key.id, audit=audit)
    return visit.go(f"reviews/{review}", "closed")


def _said(form: Form) -> dict[str, Any]:
    """What a member wants to say; raises ConfigError."""
    what = form.one_of("say", *CHOICES, *FINDINGS)
    said: dict[str, Any] = {"member": form.get("member"), "reason": form.note()}
    if what in CHOICES:
        return said | {"kind": "vote", "choice": what}
    return said | {"kind": "assessment", "finding": what, "stage": form.get("stage")}


async def _page(visit: Visit, payload: str) -> Response:
    office = visit.office
    review = await in_thread(review_state, office.store, visit.request.path_params["id"], office.audit_folder)
    known = await in_thread(members, office.store, office.audit_folder)
    return await visit.page(
        "review.html",
        f"Review of {review.model}",
        review=review,
        still=review.state in OPEN,
        members=[m for m in known if m.state == "active" and m.name not in review.excluded],
        choices=CHOICES,
        findings=FINDINGS,
        payload=payload,
        may_close=visit.key.reviews_all,
    )
