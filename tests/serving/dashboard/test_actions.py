"""What people do at the dashboard goes through the functions that the command line and the API use, is theirs by name
in the audit log, and is refused where it isn't theirs to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysafe.control.intervention import InterventionOrder
from raysafe.control.intervention_orders import list_interventions, propose
from raysafe.control.kill_log import ALL
from raysafe.control.kill_orders import kill, why_killed
from raysafe.monitoring.alerts import get_alert
from raysafe.monitoring.silences import list_silences
from raysafe.oversight.decisions import DecisionLog
from raysafe.oversight.safety_case import load_case, why_not
from raysafe.records.evidence import Evidence
from raysafe.records.registry import Registry
from tests.records.test_registry import make_run
from tests.serving.dashboard.conftest import House, add_alert, token_of

pytestmark = [pytest.mark.anyio]


def closed(house: House, name: str = "m") -> bool:
    return why_killed(house.store, {name}, house.audit_folder) is not None


def order_kill(house: House, by: str = "otto", target: str = "m") -> None:
    kill(house.store, target, by=by, reason="it lies", audit=house.audit_folder)


FORMS: list[tuple[str, dict[str, str]]] = [
    ("/kill", {"do": "kill", "target": "m", "note": "x", "confirmation": "m"}),
    ("/alerts", {"do": "silence", "hours": "1", "note": "x"}),
    ("/interventions", {"do": "apply", "kind": "quarantine", "target": "m", "note": "x"}),
    ("/audit", {"x": ""}),
    ("/sign-out", {"x": ""}),
    ("/theme", {"theme": "dark"}),
]


@pytest.mark.parametrize(("path", "fields"), FORMS)
@pytest.mark.parametrize("token", [None, "", "0" * 64, "another's"])
async def test_a_form_without_its_sessions_token_does_nothing(
    house: House, path: str, fields: dict[str, str], token: str | None
) -> None:
    browser = await house.signed_in("otto")
    if token == "another's":
        token = token_of(await (await house.signed_in("olga")).get("/"))
    before = len(house.rows())
    sent = fields if token is None else fields | {"form_token": token}
    answer = await browser.client.post(f"/dashboard{path}", data=sent)
    assert answer.status_code == 403 and "form" in answer.text
    assert len(house.rows()) == before and (await browser.get("/")).status_code == 200


async def test_a_form_of_nobody_leads_to_the_sign_in(house: House) -> None:
    answer = await house.browser().client.post("/dashboard/kill", data=FORMS[0][1])
    assert answer.status_code == 303 and not closed(house)


@pytest.mark.parametrize("outcome", ["released", "refused"])
async def test_a_reviewer_decides_on_a_hold(house: House, outcome: str) -> None:
    await house.ask("a bomb")
    [hold] = house.holds.list()
    browser = await house.signed_in("rita")
    answer = await browser.post(f"/holds/{hold.id}", outcome=outcome, note="I looked")
    assert answer.headers["location"] == f"/dashboard/holds?done={outcome}"
    assert outcome.capitalize() in (await browser.get(f"/holds?done={outcome}")).text
    kept = house.holds.get(hold.id)
    assert kept is not None and (kept.outcome, kept.reviewer, kept.note) == (outcome, "rita", "I looked")
    assert [(row["actor"], row["subject"]) for row in house.rows(outcome)] == [("rita", hold.id)]
    assert (house.holds.released(hold.id) is not None) is (outcome == "released")


async def test_that_a_hold_was_read_is_recorded_before_it_is_shown(house: House) -> None:
    await house.ask("a bomb")
    [hold] = house.holds.list()
    await (await house.signed_in("rita")).get(f"/holds/{hold.id}")
    assert [(row["actor"], row["subject"]) for row in house.rows("read")] == [("rita", hold.id)]


async def test_a_decision_without_a_reason_keeps_the_page_and_decides_nothing(house: House) -> None:
    await house.ask("a bomb")
    [hold] = house.holds.list()
    answer = await (await house.signed_in("rita")).post(f"/holds/{hold.id}", outcome="released", note="  ")
    assert answer.status_code == 409 and "a reason is needed" in answer.text and 'name="note"' in answer.text
    assert len(house.holds.list()) == 1


async def test_another_tenants_hold_is_not_decided(house: House) -> None:
    await house.ask("a bomb")
    [hold] = house.holds.list()
    eve = await house.signed_in("eve")
    token = token_of(await eve.get("/"))
    fields = {"form_token": token, "outcome": "released", "note": "x"}
    assert (await eve.client.post(f"/dashboard/holds/{hold.id}", data=fields)).status_code == 404
    assert len(house.holds.list()) == 1


async def test_a_kill_takes_its_confirmation(house: House) -> None:
    browser = await house.signed_in("otto")
    for typed in ("", "n", "everything"):
        answer = await browser.post("/kill", do="kill", target="m", note="it lies", confirmation=typed)
        assert answer.status_code == 409 and not closed(house)
        assert "it lies</textarea>" in answer.text, "what was typed is kept"


@pytest.mark.parametrize(("target", "typed"), [("m", "m"), (ALL, "everything")])
async def test_an_operator_kills(house: House, target: str, typed: str) -> None:
    Registry(house.store).register(make_run(house.folder / "run"), name="m")
    answer = await (await house.signed_in("otto")).post(
        "/kill", do="kill", target=target, note="it lies", confirmation=typed
    )
    assert answer.status_code == 303 and closed(house)
    [row] = house.rows("killed")
    assert (row["actor"], row["subject"], row["details"]["reason"]) == ("otto", target, "it lies")


async def test_no_reviewer_kills_or_restores(house: House) -> None:
    browser = await house.signed_in("rita")
    assert (await browser.post("/kill", **FORMS[0][1])).status_code == 403
    assert not closed(house)
    order_kill(house)
    assert (await browser.post("/kill", do="restore", target="m", note="x")).status_code == 403
    assert closed(house)


async def test_who_killed_does_not_restore_and_a_second_person_does(house: House) -> None:
    order_kill(house)
    first, second = await house.signed_in("otto"), await house.signed_in("olga")
    assert "Restore m" not in (await first.get("/kill")).text
    refused = await first.post("/kill", do="restore", target="m", note="mended")
    assert refused.status_code == 403 and "second person" in refused.text and closed(house)
    assert "Restore m" in (await second.get("/kill")).text
    assert (await second.post("/kill", do="restore", target="m", note="mended")).status_code == 303
    assert not closed(house)


async def test_the_dashboard_works_while_the_service_is_killed(house: House) -> None:
    house.switch.close("'m' was killed by ann: it lies")
    assert (await (await house.signed_in("otto")).get("/kill")).status_code == 200


@pytest.mark.parametrize(("step", "state"), [("acknowledge", "acknowledged"), ("resolve", "resolved")])
async def test_a_reviewer_says_what_becomes_of_an_alert(house: House, step: str, state: str) -> None:
    name = add_alert(house.store)
    assert (await (await house.signed_in("rita")).post(f"/alerts/{name}", do=step, note="I look")).status_code == 303
    alert = get_alert(house.store, name)
    assert alert is not None and (alert.state, alert.note) == (state, "I look")
    assert [row["actor"] for row in house.rows(f"alert {state}")] == ["rita"]


@pytest.mark.parametrize(("path", "fields"), [("/alerts/al-1", {"do": "resolve", "note": "x"}), FORMS[1]])
async def test_a_tenants_own_reviewer_leaves_alerts_alone(house: House, path: str, fields: dict[str, str]) -> None:
    add_alert(house.store)
    assert (await (await house.signed_in("eve")).post(path, **fields)).status_code == 403
    alert = get_alert(house.store, "al-1")
    assert alert is not None and alert.state == "open" and list_silences(house.store) == []


async def test_a_silence_begins_and_ends(house: House) -> None:
    browser = await house.signed_in("rita")
    await browser.post("/alerts", do="silence", rule="refusals", service="m", hours="4", note="maintenance")
    [found] = list_silences(house.store)
    assert (found.rule, found.by, round((found.until - found.created).total_seconds())) == ("refusals", "rita", 14400)
    await browser.post("/alerts", do="end", id=found.id)
    assert list_silences(house.store) == []


async def test_an_intervention_is_confirmed_and_reverted_by_others_than_asked_for_it(house: House) -> None:
    order = InterventionOrder(kind="quarantine", target="m")
    name = propose(house.store, order, by="otto", reason="odd", audit=house.audit_folder).id
    first, second = await house.signed_in("otto"), await house.signed_in("olga")

    def status() -> str:
        found = list_interventions(house.store, everything=True, audit=house.audit_folder)
        return next(status for each, status in found if each.id == name)

    assert (await first.post("/interventions", do="confirm", id=name)).status_code == 403
    assert status() == "proposed"
    assert (await second.post("/interventions", do="confirm", id=name)).status_code == 303
    assert status() == "in force"
    assert (await second.post("/interventions", do="revert", id=name, note="over")).status_code == 403
    assert (await first.post("/interventions", do="revert", id=name, note="over")).status_code == 303
    assert status() == "reverted"


async def test_a_throttle_is_applied_with_its_rate_and_time(house: House) -> None:
    Registry(house.store).register(make_run(house.folder / "run"), name="m")
    browser = await house.signed_in("otto")
    fields = {"do": "apply", "kind": "throttle", "target": "m", "note": "crowded", "duration_s": "900"}
    assert (await browser.post("/interventions", **fields)).status_code == 409, "a throttle needs its rate"
    assert (await browser.post("/interventions", **fields, requests_per_minute="30")).status_code == 303
    [(found, status)] = list_interventions(house.store, audit=house.audit_folder)
    assert (found.kind, found.options, found.applied_by, status) == (
        "throttle",
        {"requests_per_minute": 30.0},
        "otto",
        "in force",
    )


@pytest.mark.parametrize("who", ["rita", "eve"])
async def test_reviewers_apply_no_intervention(house: House, who: str) -> None:
    assert (await (await house.signed_in(who)).post("/interventions", **FORMS[2][1])).status_code == 403
    assert list_interventions(house.store, audit=house.audit_folder) == []


async def decided(house: House, who: str, label: str, **fields: Any) -> int:
    browser = await house.signed_in(who)
    page = (await browser.get(f"/models/{label}")).text
    seen = page.partition('name="seen" value="')[2][:64]
    return (await browser.post(f"/models/{label}", **({"seen": seen} | fields))).status_code


async def test_a_model_is_approved_with_the_capabilities_that_were_written(house: House, tmp_path: Path) -> None:
    label = Registry(house.store).register(make_run(tmp_path / "run"), name="tiny")[0].label
    granted = "tools: [search]\nautonomy: 1"
    assert await decided(house, "rita", label, outcome="approved", note="fine", capabilities=granted) == 303
    case = load_case(house.store, label)
    assert why_not(case, DecisionLog(house.audit_folder)) is None
    assert (case.capabilities.tools, case.capabilities.autonomy) == (("search",), 1)
    assert case.decision is not None and case.decision.reviewer == "rita"


async def test_a_failed_figure_is_passed_over_only_by_name(house: House, tmp_path: Path) -> None:
    registry = Registry(house.store)
    version, _ = registry.register(make_run(tmp_path / "run"), name="tiny")
    bad = Evidence(
        suite="s", metric="unsafe", value=0.9, n=9, threshold=0.1, better="lower", model_digest=version.digest
    )
    registry.add_evidence(version, [bad])
    fields = {"outcome": "approved", "note": "known"}
    assert await decided(house, "rita", version.label, **fields) == 403
    assert await decided(house, "rita", version.label, **fields, accepted="s/unsafe") == 303


async def test_evidence_that_came_after_the_page_is_not_approved_unseen(house: House, tmp_path: Path) -> None:
    label = Registry(house.store).register(make_run(tmp_path / "run"), name="tiny")[0].label
    assert await decided(house, "rita", label, outcome="approved", note="fine", seen="0" * 64) == 409
    assert load_case(house.store, label).decision is None


async def test_a_tenants_own_reviewer_approves_no_model(house: House, tmp_path: Path) -> None:
    label = Registry(house.store).register(make_run(tmp_path / "run"), name="tiny")[0].label
    assert await decided(house, "eve", label, outcome="approved", note="fine") == 403
    assert load_case(house.store, label).decision is None


@pytest.mark.parametrize("text", ["tools: [", "autonomy: 9", "- a list"])
async def test_capabilities_that_cannot_be_read_grant_nothing(house: House, tmp_path: Path, text: str) -> None:
    label = Registry(house.store).register(make_run(tmp_path / "run"), name="tiny")[0].label
    assert await decided(house, "rita", label, outcome="approved", note="fine", capabilities=text) == 409
    assert load_case(house.store, label).decision is None


async def test_colours_are_kept_in_a_cookie(house: House) -> None:
    browser = await house.signed_in("rita")
    page = await browser.get("/")
    fields = {"form_token": token_of(page), "theme": "dark", "next": "/dashboard/holds"}
    assert (await browser.client.post("/dashboard/theme", data=fields)).headers["location"] == "/dashboard/holds"
    assert '<html lang="en" data-theme="dark">' in (await browser.get("/")).text


@pytest.mark.parametrize(("kind", "size", "status"), [("text/plain", 10, 415), (None, 70_000, 413)])
async def test_a_body_that_is_no_form_or_too_large_is_refused(house: House, kind: str, size: int, status: int) -> None:
    browser = await house.signed_in("rita")
    headers = {"Content-Type": kind or "application/x-www-form-urlencoded"}
    answer = await browser.client.post("/dashboard/alerts", content=b"a" * size, headers=headers)
    assert answer.status_code == status
