"""The committee at the dashboard: what a member signs counts, what anybody else sends doesn't."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from raysafe.oversight.committee.queue import review_state
from raysafe.oversight.safety_case import approved_case
from tests.oversight.committee.house import House as Committee
from tests.serving.dashboard.conftest import Browser, House

pytestmark = [pytest.mark.anyio]


@dataclass
class Panel:
    """A committee with an assessed model before it, and the dashboard beside."""

    house: House
    committee: Committee
    review: str

    @property
    def votes(self) -> dict[str, str]:
        return {said.name: said.choice for said in review_state(self.house.store, self.review).votes}

    async def prepared(self, browser: Browser, name: str, say: str = "approve") -> str:
        """The text that the page gives a member to sign."""
        member = self.committee.ids[name]
        page = await browser.post(f"/reviews/{self.review}", do="prepare", member=member, say=say, note="as I see it")
        found = re.search(r'<textarea id="payload"[^>]*>(.*?)</textarea>', page.text, re.S)
        assert found is not None, page.text
        return html.unescape(found[1])

    async def submit(self, browser: Browser, payload: str, signed_by: str) -> int:
        signature = self.committee.keys[signed_by].sign(payload.encode()).hex()
        path = f"/reviews/{self.review}"
        return (await browser.post(path, do="submit", payload=payload, signature=signature)).status_code


@pytest.fixture
def panel(house: House, tmp_path: Path) -> Panel:
    committee = Committee(house.store, tmp_path)
    committee.found()
    committee.register()
    review = committee.submit()
    committee.assess(review.id)
    return Panel(house, committee, review.id)


async def test_a_signed_vote_counts(panel: Panel) -> None:
    rita = await panel.house.signed_in("rita")
    assert await panel.submit(rita, await panel.prepared(rita, "Bo"), "Bo") == 303
    assert panel.votes == {"Bo": "approve"}
    assert "Bo" in (await rita.get(f"/reviews/{panel.review}")).text


async def test_a_vote_that_another_signed_or_that_was_cast_already_is_refused(panel: Panel) -> None:
    rita = await panel.house.signed_in("rita")
    payload = await panel.prepared(rita, "Bo")
    assert await panel.submit(rita, payload, "Cy") == 403
    assert panel.votes == {}
    assert await panel.submit(rita, payload, "Bo") == 303
    assert await panel.submit(rita, payload, "Bo") == 403


async def test_a_changed_payload_is_refused(panel: Panel) -> None:
    rita = await panel.house.signed_in("rita")
    payload = await panel.prepared(rita, "Bo", "reject")
    signature = panel.committee.keys["Bo"].sign(payload.encode()).hex()
    forged = payload.replace("reject", "approve")
    path = f"/reviews/{panel.review}"
    answer = await rita.post(path, do="submit", payload=forged, signature=signature)
    assert answer.status_code == 403 and panel.votes == {}


async def test_a_decided_vote_is_closed_by_the_houses_own_people(panel: Panel) -> None:
    for name in ("Ada", "Bo", "Cy", "Di"):
        panel.committee.vote(panel.review, name)
    path = f"/reviews/{panel.review}"
    assert (await (await panel.house.signed_in("eve")).post(path, do="close")).status_code == 403
    assert (await (await panel.house.signed_in("rita")).post(path, do="close")).status_code == 303
    assert approved_case(panel.house.store, "tiny:1").version.label == "tiny:1"


async def test_an_open_vote_is_not_closed(panel: Panel) -> None:
    rita = await panel.house.signed_in("rita")
    assert (await rita.post(f"/reviews/{panel.review}", do="close")).status_code == 403


async def test_where_a_committee_stands_nobody_decides_alone(panel: Panel) -> None:
    rita = await panel.house.signed_in("rita")
    seen = (await rita.get("/models/tiny:1")).text.partition('name="seen" value="')[2][:64]
    answer = await rita.post("/models/tiny:1", outcome="approved", note="fine", seen=seen)
    assert answer.status_code in (403, 409) and "committee" in answer.text


async def test_a_committees_log_that_was_tampered_with_closes_its_own_page_alone(panel: Panel) -> None:
    path = panel.house.audit_folder / "committee.jsonl"
    path.write_bytes(path.read_bytes().replace(b"for release", b"for revenge"))
    otto = await panel.house.signed_in("otto")
    assert (await otto.get("/reviews")).status_code in (403, 503)
    page = await otto.get("/kill")
    assert page.status_code == 200 and "unreadable" in page.text
