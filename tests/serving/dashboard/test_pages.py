"""What pages show, to whom, and that what they show is text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raysafe.control.intervention import InterventionOrder
from raysafe.control.intervention_orders import propose
from raysafe.records.registry import Registry
from tests.records.test_registry import make_run
from tests.serving.dashboard.conftest import House, add_alert

pytestmark = [pytest.mark.anyio]
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><a href=javascript:alert(1)>x</a>{{ 7*7 }}"
TURNED = "safe \u202egnp.exe\u200b end\ud83d"


async def test_every_response_forbids_what_a_page_needs_not(house: House) -> None:
    browser = await house.signed_in("otto")
    paths = ["/", "/sign-in", "/holds", "/models", "/kill", "/audit", "/alerts", "/interventions", "/none"]
    paths += ["/holds/none", "/static/dashboard.css", "/static/dashboard.js", "/static/none"]
    for path in paths:
        headers = (await browser.get(path)).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; "), path
        assert "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")


async def test_pages_load_nothing_from_elsewhere_and_hold_no_script_or_style_of_their_own(house: House) -> None:
    browser = await house.signed_in("otto")
    for path in ("/", "/holds", "/models", "/kill", "/audit", "/alerts", "/interventions"):
        text = (await browser.get(path)).text
        assert not re.search(r"""(?:src|href|action)=["']?(?:https?:)?//""", text)
        assert not re.search(r"<style|<script(?! type=\"module\" src=\"/dashboard/static/)|\sstyle=|\son\w+=", text)


async def test_model_text_is_shown_as_text(house: House) -> None:
    await house.ask(f"a bomb {HOSTILE}")
    [hold] = house.holds.list()
    browser = await house.signed_in("rita")
    page = (await browser.get(f"/holds/{hold.id}")).text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "{{ 7*7 }}" in page
    assert "<script>alert" not in page and "<img src=x" not in page and "<a href=javascript" not in page


async def test_hidden_characters_of_a_text_are_spelled_out(house: House) -> None:
    await house.ask("a bomb safe \u202egnp.exe\u200b \U000e0041")
    [hold] = house.holds.list()
    page = (await (await house.signed_in("rita")).get(f"/holds/{hold.id}")).text
    assert 'safe <mark class="hidden">U+202E</mark>gnp.exe<mark class="hidden">U+200B</mark>' in page
    assert "U+E0041" in page and "\u202e" not in page


async def test_notes_rules_and_reasons_are_escaped_wherever_they_come(house: House) -> None:
    add_alert(house.store, rule=HOSTILE, summary=HOSTILE + TURNED[:-1], note=HOSTILE)
    order = InterventionOrder(kind="quarantine", target="m")
    propose(house.store, order, by="x<b>", reason=HOSTILE, audit=house.audit_folder)
    house.audit.append(
        "verdict", HOSTILE, HOSTILE, {"model": "m", "action": HOSTILE, "tenant": HOSTILE, HOSTILE: TURNED}
    )
    browser = await house.signed_in("otto")
    await house.ask("a bomb")
    [hold] = house.holds.list()
    await browser.post(f"/holds/{hold.id}", outcome="refused", note=HOSTILE)
    for path in (
        "/",
        "/alerts",
        "/alerts/al-1",
        "/interventions",
        "/audit",
        f"/holds/{hold.id}",
        f"/audit?kind={HOSTILE}",
    ):
        answer = await browser.get(path)
        assert answer.status_code == 200, path
        assert "<script>alert" not in answer.text and "<img src=x" not in answer.text, path
        assert "\u202e" not in answer.text


async def test_live_traffic_shows_what_guards_did(house: House) -> None:
    for text in ("hello", "a gun please", "a bomb"):
        await house.ask(text)
    page = (await (await house.signed_in("rita")).get("/")).text
    rows = re.findall(r'<td><span class="pill \w+">(\w+)</span></td>\s*<td class="nowrap">([^<]*)</td>', page)
    assert rows == [("held", "holds bomb"), ("blocked", "blocks gun"), ("allowed", "")]
    only = (await (await house.signed_in("rita")).get("/?only=block")).text
    assert re.findall(r'<td><span class="pill \w+">(\w+)</span></td>', only) == ["blocked"]


async def test_an_exchange_is_told_row_by_row_with_its_texts(house: House) -> None:
    answer = await house.ask("a gun please")
    page = (await (await house.signed_in("otto")).get(f"/exchanges/{answer.headers['x-raysafe-id']}")).text
    assert "a gun please" in page and "blocks gun" in page


@pytest.mark.parametrize("path", ["/", "/audit", "/holds"])
async def test_a_reviewer_sees_no_other_tenants_traffic(house: House, path: str) -> None:
    await house.ask("a bomb by ann")
    await house.ask("a bomb by mallory", "mallory")
    [first, second] = sorted(house.holds.list(), key=lambda hold: hold.key_id)
    for who, seen in (("eve", {second.id}), ("rita", {first.id}), ("otto", {first.id, second.id})):
        page = (await (await house.signed_in(who)).get(path)).text
        assert {hold.id for hold in (first, second) if hold.id in page} == seen


async def test_another_tenants_hold_and_exchange_are_not_there(house: House) -> None:
    await house.ask("a bomb")
    [hold] = house.holds.list()
    browser = await house.signed_in("eve")
    assert (await browser.get(f"/holds/{hold.id}")).status_code == 404
    assert (await browser.get(f"/exchanges/{hold.id}")).status_code == 404


async def test_a_safety_case_shows_why_a_model_may_not_be_served(house: House, tmp_path: Path) -> None:
    version, _ = Registry(house.store).register(make_run(tmp_path / "run"), name="tiny")
    browser = await house.signed_in("rita")
    assert version.label in (await browser.get("/models")).text
    page = (await browser.get(f"/models/{version.label}")).text
    assert "has not been reviewed" in page and version.digest in page


async def test_the_audit_log_is_searched_by_kind_subject_and_time(house: House) -> None:
    for text in ("hello", "a gun", "a bomb"):
        await house.ask(text)
    browser = await house.signed_in("otto")
    signed = (await browser.get("/audit?kind=signed+in")).text
    assert signed.count("<tr>") == 2 and "verdict</td>" not in signed
    [hold] = house.holds.list()
    assert (await browser.get(f"/audit?subject={hold.id}")).text.count(f"exchanges/{hold.id}") == 1
    assert "No such row" in (await browser.get("/audit?since=2999-01-01")).text
    assert "No such row" in (await browser.get("/audit?before=2000-01-01+00:00")).text
    assert (await browser.get("/audit?since=yesterday")).status_code == 400


async def test_a_log_that_was_tampered_with_is_told_of(house: House) -> None:
    await house.ask("hello")
    browser = await house.signed_in("otto")
    assert "Every chain is whole." in (await browser.post("/audit")).text
    path = house.audit_folder / "gateway-m.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join((lines[0].replace(b'"allow"', b'"block"'), *lines[1:])))
    found = (await browser.post("/audit")).text
    assert "tampered with" in found and "row 1 was changed" in found


async def test_there_is_no_dashboard_where_there_are_no_records() -> None:
    import httpx

    from tests.serving.conftest import make_desk

    async with httpx.AsyncClient(transport=httpx.ASGITransport(make_desk().app), base_url="http://gateway") as client:
        assert (await client.get("/dashboard/")).status_code == 404
